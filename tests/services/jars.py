"""Apache Kafka's published jars: fetched once with Maven, then found in a cache folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final

from schemas.errors import ServiceUnavailable
from tests.services.service import NotInstalled, find_program

KAFKA_VERSION: Final = "4.1.1"
# slf4j-simple writes Kafka's own log to its standard error.
_ARTIFACTS: Final = (("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), ("org.slf4j", "slf4j-simple", "1.7.36"))
_COMPLETE = "complete"


def kafka_folder() -> Path:
    """Return where the jars are kept: below ``WHIRR_CACHE_DIR``, else below ``whirr`` in the user's cache folder."""
    given = os.environ.get("WHIRR_CACHE_DIR")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whirr"
    return (Path(given) if given else default) / f"kafka-{KAFKA_VERSION}"


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars.

    Raises:
        NotInstalled: They were not fetched yet.
    """
    folder = kafka_folder()
    if not (folder / _COMPLETE).exists():
        raise NotInstalled(f"Apache Kafka is not in {folder}; fetch it with: python -m tests.services fetch")
    return folder


def fetch_kafka() -> Path:
    """Fetch Kafka's jars with Maven unless they are there; return their folder.

    Raises:
        NotInstalled: There is no Maven.
        ServiceUnavailable: A jar can't be had.
    """
    with contextlib.suppress(NotInstalled):
        return kafka_jars()
    maven = find_program("mvn", "maven")
    folder = kafka_folder()
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(_pom())
    command: list[str | Path] = [maven, "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run([*command, "-DincludeScope=runtime"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ServiceUnavailable(f"Maven could not fetch Apache Kafka {KAFKA_VERSION}:\n{done.stdout[-2000:]}")
    (folder / _COMPLETE).touch()
    return folder


def _pom() -> str:
    dependencies = "\n".join(
        f"    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        "</dependency>"
        for group, artifact, version in _ARTIFACTS
    )
    return f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>whirr</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
