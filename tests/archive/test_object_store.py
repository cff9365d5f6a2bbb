"""An archive in an object store that speaks S3, as s3fs reaches it; skipped where s3fs and moto are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import archive
from archive.places import place_of
from archive.quotas import Keep
from schemas.errors import ServiceUnavailable
from tests.archive.kept import MACHINE, NOW_US, added, frame
from trainer.recording_set import find_recordings

s3fs = pytest.importorskip("s3fs", reason="needs the packages s3fs and moto[server]")
moto_server = pytest.importorskip("moto.server", reason="needs the packages s3fs and moto[server]")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"plant-{uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/whirr"
    server.stop()


def test_an_archive_in_a_bucket_is_kept_pinned_pruned_and_fetched(bucket: str, tmp_path: Path):
    kept = archive.open(bucket, Keep(all_h=1.0, a_day=5, days=None, gb=None, machine_gb=None))
    added(kept, [frame(n, machine, "mic [1]*?") for n in range(12) for machine in (MACHINE, "pump-10")])
    assert len(kept.entries(MACHINE)) == 12
    pin = kept.pin(MACHINE, 0, None, "baseline")
    assert kept.prune(NOW_US).thinned == 7
    kept.unpin(pin.pin_id)
    assert kept.prune(NOW_US).thinned == 7
    assert len([name for name in kept.place.names("") if name.endswith(".flac")]) == 10
    assert len(kept.fetch(kept.entries(MACHINE), tmp_path / "out").paths) == 5
    assert find_recordings(tmp_path / "out").machines == {MACHINE: 5}
    assert kept.mend() == archive.Mended(0, 0, 0)


def test_a_bucket_is_a_place(bucket: str):
    place = place_of(bucket)
    assert place.names("") == []
    assert place.read("a/b") is None
    place.write({"a/b": b"1", "a/c/d": b"2", "e": b"3"})
    assert place.names("a") == ["a/b", "a/c/d"]
    place.remove(["nothing", "a/c/d", "e"])
    assert place.names("") == ["a/b"]
    with pytest.raises(ServiceUnavailable, match=r"s3://nosuch/x.*bucket does not exist"):
        place_of("s3://nosuch/x").write({"a": b""})
