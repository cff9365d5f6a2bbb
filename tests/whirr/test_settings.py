"""Where settings come from, which are refused, and how ``whirr settings`` shows them."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from commands import run
from commands.settings import MASK, show
from schemas.errors import SettingsError
from tests.helpers import REPOSITORY, run_whirr
from whirr.maintenance import MaintenanceWindow
from whirr.settings import EMBEDDED_BOOTSTRAP, Route, Settings, load_settings, unknown_variables

WINDOW = "[[maintenance]]\nmatch = 'pump-*'\nstart = 2026-01-03T22:00:00Z\nduration = '8h'\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "whirr.toml"
    path.touch()
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(path))
    return path


# Where they come from


def test_the_environment_comes_before_the_file_and_an_argument_before_both(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert load_settings().batch_frames == 64
    file.write_text("batch_frames = 32\n")
    assert load_settings().batch_frames == 32
    monkeypatch.setenv("WHIRR_BATCH_FRAMES", "16")
    assert load_settings().batch_frames == 16
    assert load_settings(batch_frames=8).batch_frames == 8
    assert load_settings(batch_frames=None).batch_frames == 16


def test_without_addresses_the_broker_is_the_embedded_one():
    assert load_settings().embedded
    assert load_settings().bootstrap == EMBEDDED_BOOTSTRAP
    assert not load_settings(kafka_bootstrap_servers="kafka:9092").embedded
    assert load_settings(kafka_bootstrap_servers="127.0.0.1:5000", kafka_embedded=True).embedded


def test_the_first_route_that_matches_counts(file: Path):
    file.write_text(
        '[[route]]\nmatch = "pump-7"\nmodel = "pumps.onnx"\nk = 2\n'
        '[[route]]\nmatch = "pump-*"\nmodel = "others.onnx"\n'
        '[[route]]\nmatch = "fan-[12]"\nmodel = "fans.onnx"\nmuted_until = 2026-01-31T12:00:00Z\n'
    )
    settings = load_settings()
    pump, fan = settings.route_for("pump-7"), settings.route_for("fan-2")
    assert pump is not None
    assert (pump.model, pump.k, pump.n) == ("pumps.onnx", 2, 5)
    assert fan is not None
    assert fan.muted_until == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert settings.route_for("fan-3") is None
    assert settings.route_for("Pump-7") is None


# What is refused


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batch_frames = 0", "batch_frames"),
        ("batch_frame = 1", "batch_frame"),
        ('log_level = "loud"', "log_level"),
        ("batch_frames = ", "whirr.toml"),
        ("[[route]]\nmatch = 'a'", "route.0.model"),
        ("[[route]]\nmodel = 'm'\nk = 6\nn = 5", "k is 6, n is 5"),
        ("[[route]]\nmodel = 'm'\nmuted_until = 2026-01-31T12:00:00", "expected a time with an offset"),
        ("[[route]]\nmodel = 'm'\nthresholds = 1", "route.0.thresholds"),
        ("[[route]]\nmodel = 'm'\nrunning_dbfs = 3", "running_dbfs"),
        ("frames_topic = 'frames of pumps'", "frames_topic: topic is 'frames of pumps'; expected 1 to 249 of"),
        ("alerts_topic = ''", "alerts_topic"),
        (f"scores_topic = '{'a' * 250}'", "scores_topic"),
        ("dead_letter_topic = '..'", "dead_letter_topic"),
    ],
)
def test_a_wrong_file_is_refused_by_name(file: Path, text: str, named: str):
    file.write_text(text)
    with pytest.raises(SettingsError, match=named):
        load_settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch_frame = 1", "line 1: batch_frame is no setting; did you mean batch_frames?"),
        ("# all\n\nBATCH_FRAMES = 0", "line 3: batch_frames: expected 1 to 1,024; it is 0"),
        ("[[route]]\nmodel = 'm'\n\n[[route]]\nmodel = 'm'\nk = 1\nhystersis = 1", "line 7: route.1.hystersis is no"),
        ("[[route]]\nmodel = 'm'\nhystersis = 1", "is no setting of a route; did you mean hysteresis?"),
        ("[[route]]\nmodel = 'm'\nlog_level = 'info'", "log_level belongs above the first [[route]]"),
        ("k = 3", "line 1: k is no setting of the whole file; k belongs below a [[route]]"),
        ("[kafka]\nbootstrap_servers = 'a:1'", "did you mean kafka_bootstrap_servers, without a table?"),
        ("[route]\nmodel = 'm'", "line 1: route: expected [[route]], with two brackets"),
        ("route = [{model = 'm', kk = 3}]", "route.0.kk is no setting of a route"),
        (
            f"{WINDOW}\n[[maintenance]]\nmatch = 'a'\nstart = 2026-01-01T00:00:00Z\nduration = '0h'\nnotes = ''",
            "line 10: maintenance.1.notes is no setting of a maintenance window; did you mean note?",
        ),
        (f"{WINDOW}rule = 'FREQ=SECONDLY'", "line 5: maintenance.0.rule: rule is 'FREQ=SECONDLY'; expected FREQ"),
        (
            f"{WINDOW}rule = 'FREQ=DAILY;BYMONTHDAY=32'",
            "line 1: maintenance.0: rule is 'FREQ=DAILY;BYMONTHDAY=32', which",
        ),
        (f"{WINDOW}web_port = 1", "web_port belongs above the first [[maintenance]]"),
        ("duration = '1h'", "duration belongs below a [[maintenance]]"),
        ("[maintenance]\nmatch = 'm'", "line 1: maintenance: expected [[maintenance]], with two brackets"),
        ("web_port = 1\nweb_port = 2\n", "line 2: Cannot overwrite a value; expected TOML"),
        ("web_port = 1\nlog_level = info", "line 2: Expected newline"),
        ("web_port = 700000", "line 1: web_port: expected 0 to 65,535; it is 700000"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_file_line_and_nearest_key(file: Path, text: str, told: str):
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHIRR_WEB_PORT", "x")
    file.write_text("batch_frame = 1\nlog_level = 'loud'")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
        "3 settings can't be used:",
        "web_port",
        f"{file}, line 2",
        f"{file}, line 1",
    ]


def test_a_file_that_is_no_text_is_refused(file: Path):
    file.write_bytes(b"web_port = 1\n\xff")
    with pytest.raises(SettingsError, match="line 2: is no UTF-8 text"):
        load_settings()


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(tmp_path))
    with pytest.raises(SettingsError, match="is no file"):
        load_settings()


def test_a_file_may_begin_with_the_mark_of_windows_editors(file: Path):
    file.write_bytes(b"\xef\xbb\xbfweb_port = 7\r\n")
    assert load_settings().web_port == 7


def test_a_secret_that_is_wrong_is_not_shown(file: Path):
    file.write_text("mlflow_password = 31337")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "31337" not in str(caught.value)


_FLOATS = [name for name, field in Settings.model_fields.items() if "float" in str(field.annotation)]
_ROUTE_FLOATS = [name for name, field in Route.model_fields.items() if "float" in str(field.annotation)]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400", "1e300"])
@pytest.mark.parametrize("name", _FLOATS)
def test_no_setting_takes_what_is_no_number_to_count_with(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"WHIRR_{name.upper()}", value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", _ROUTE_FLOATS)
def test_no_route_takes_what_is_no_number_to_count_with(name: str, value: str, file: Path):
    file.write_text(f"[[route]]\nmodel = 'm'\n{name} = {value}")
    with pytest.raises(SettingsError, match=f"line 3: route.0.{name}: expected "):
        load_settings()


@pytest.mark.parametrize(
    "text",
    [
        "batch_linger_s = 0",
        "session_timeout_s = 5.9",  # Kafka takes none below
        "session_timeout_s = 90.5",  # nor Faust above
        "frames_retention_h = 1e-9",
        "feature_history_days = 1000000",
        "topic_replication = 40000",
        "edge_spool_mb = 0",
        "model_poll_s = 1e-6",
        "worker_id = 'a worker'",
        'worker_dir = "a\\u0000b"',
    ],
)
def test_what_can_not_work_is_refused(file: Path, text: str):
    file.write_text(text)
    with pytest.raises(SettingsError, match=text.partition(" ")[0]):
        load_settings()


_TOPICS = {
    "frames_topic": "a",
    "alerts_topic": "b",
    "scores_topic": "c",
    "dead_letter_topic": "d",
    "verdicts_topic": "e",
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(_TOPICS, 2)))
def test_two_purposes_never_share_a_topic(one: str, other: str):
    with pytest.raises(SettingsError, match=f"{one} is 'x' and {other} is 'x'; expected a topic for each"):
        load_settings(**{**_TOPICS, one: "x", other: "x"})


@pytest.mark.parametrize("name", _TOPICS)
def test_no_topic_is_one_that_whirr_makes_of_another_name(name: str):
    with pytest.raises(SettingsError, match="the changelog that worker_id makes"):
        load_settings(**{name: "w-stream-states-changelog", "worker_id": "w"})
    if name != "dead_letter_topic":
        with pytest.raises(SettingsError, match="the topic of notes"):
            load_settings(**{name: "x.replayed", "dead_letter_topic": "x"})


def test_topics_that_kafka_takes_for_the_same_are_refused():
    with pytest.raises(SettingsError, match="expected a topic for each"):
        load_settings(frames_topic="plant.frames", alerts_topic="plant_frames")


@pytest.mark.parametrize("text", ["worker_id", "dead_letter_topic"])
def test_a_topic_made_of_a_name_must_fit_too(text: str):
    with pytest.raises(SettingsError, match="expected at most 249 characters"):
        load_settings(**{text: "x" * 245})


def test_a_worker_commits_before_it_is_taken_for_stalled(file: Path):
    file.write_text("commit_stall_s = 10\ncommit_interval_s = 6")
    with pytest.raises(SettingsError, match="commit_interval_s is 6, commit_stall_s 10; expected at most half"):
        load_settings()
    file.write_text("commit_stall_s = 10\ncommit_interval_s = 5\ncompute_timeout_s = 3")
    assert load_settings().commit_interval_s == 5


def test_a_long_batch_does_not_pass_for_a_stalled_worker(file: Path):
    file.write_text("compute_timeout_s = 21")
    with pytest.raises(SettingsError, match="compute_timeout_s is 21, commit_stall_s 60; expected at most a third"):
        load_settings()
    file.write_text("compute_timeout_s = 21\ncommit_stall_s = 63")
    assert load_settings().longest_batch_s == 21
    file.write_text("commit_stall_s = 9")  # as a file of 0.1 may say
    assert load_settings().longest_batch_s == 3
    file.write_text("commit_stall_s = 600")
    assert load_settings().longest_batch_s == 15


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ("", "match is '', which is no machine's id; expected a pattern such as"),
        ("[pump", "match is '[pump', but no machine's id can have '['; ids are 1 to 128 of"),
        ("pump 7", "no machine's id can have ' '"),
        ("pump/*", "no machine's id can have '/'"),
        ("pümpe-*", "no machine's id can have 'ü'"),
        ("pump-[ äö]", "no machine's id can have '[ äö]'"),
        ("pump-[!A-Za-z0-9._:-]", "no machine's id can have"),
        ("pump-*\n", "no machine's id can have"),
        ("a" * 129, "match needs ids of 129 characters or more; ids have at most 128"),
    ],
)
def test_a_route_that_no_machine_can_have_is_refused(match: str, told: str):
    with pytest.raises(SettingsError) as caught:
        load_settings(route=({"match": match, "model": "m.onnx"},))
    assert told in str(caught.value)


@pytest.mark.parametrize("match", ["*", "?", "a", "a" * 128, "*" * 200, "pump-[12]", "[!x]*", "a:b.c_d-?", "[]a]"])
def test_a_route_that_a_machine_can_have_is_taken(match: str):
    assert load_settings(route=({"match": match, "model": "m.onnx"},)).route[0].match == match


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("*", "pump-*"),
        ("**", "?[ab]"),
        ("pump-*", "pump-*"),
        ("pump-*", "pump-7"),
        ("pump-*", "pump-1*"),
        ("*-a*", "pump-a?"),
        ("pump-?", "pump-7"),
        ("pump-[12]", "pump-2"),
    ],
)
def test_a_route_that_is_never_reached_is_refused(first: str, second: str):
    routes = [{"match": match, "model": "m.onnx"} for match in ("fan", first, second)]
    with pytest.raises(SettingsError) as caught:
        load_settings(route=routes)
    assert f"route.2: match is {second!r}, and route.1 before it, with match {first!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("pump-7", "pump-*"),
        ("pump-?", "pump-*"),
        ("pump-*", "*"),
        ("pump-*", "Pump-7"),
        ("*a*", "x[ab]y"),
        ("pump-[12]", "pump-[23]"),
        ("pump-?", "pump-??"),
    ],
)
def test_a_route_that_some_machine_reaches_is_taken(first: str, second: str):
    routes = [{"match": match, "model": "m.onnx"} for match in (first, second)]
    assert len(load_settings(route=routes).route) == 2


@pytest.mark.parametrize("model", ["", "  ", "a\0b"])
def test_a_route_needs_a_model(model: str):
    with pytest.raises(SettingsError, match="expected the path of a file, or a model in the registry"):
        load_settings(route=({"model": model},))


def test_silence_is_told_before_a_stream_is_forgotten():
    route = {"model": "m", "silent_after_s": 7201.0, "forget_after_h": 2.0}
    with pytest.raises(SettingsError, match=r"silent_after_s is 7201, forget_after_h 2 \(7200 s\); expected"):
        load_settings(route=(route,))
    for harmless in ({"silent_after_s": 7200.0}, {"silent_after_s": None}, {"forget_after_h": None}):
        assert load_settings(route=({**route, **harmless},)).route
    assert load_settings(route=({"model": "m", "forget_after_h": 0.1},)).route  # who says one thing contradicts nothing


@pytest.mark.parametrize("host", ["not a host", "", "http://here", "here:80", "300.1.1.1", "[::1]", "-", "a..b"])
def test_a_host_that_is_none_is_refused(host: str):
    with pytest.raises(SettingsError, match=r"web_host: host is .*expected an address or a host's name"):
        load_settings(web_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "edge_7.plant.example.", "a-b"])
def test_a_host_is_an_address_or_a_name(host: str):
    assert load_settings(web_host=host).web_host == host


def test_every_variable_that_is_used_anywhere_is_known():
    files = [REPOSITORY / "docker-compose.kafka.yml", *REPOSITORY.glob("*/**/*.py"), *REPOSITORY.glob("docs/*.md")]
    texts = [path.read_text() for path in files if ".venv" not in path.parts and "tests" not in path.parts]
    used = set(re.findall(r"\bWHIRR_[A-Z][A-Z_]*[A-Z]\b", "\n".join(texts)))
    assert unknown_variables(dict.fromkeys(used, "")) == []


@pytest.mark.parametrize("command", [("settings",), ("edge", "status"), ("topics", "check"), ("machines", "--help")])
def test_every_command_warns_once_of_a_misspelt_variable(command: tuple[str, ...]):
    done = run_whirr(*command, env={"WHIRR_SPOOL_DIR": "x", "WHIRR_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert done.stderr.count("WHIRR_SPOOL_DIR is no setting; did you mean WHIRR_EDGE_SPOOL_DIR?") == 1
    assert "WHIRR_SPOOL_DIR" not in done.stdout


def test_a_wrong_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHIRR_WEB_PORT", "66000")
    with pytest.raises(SettingsError, match="web_port"):
        load_settings()


@pytest.mark.parametrize(
    "addresses", ["kafka:9092", "a-1.example.org:1, b_2:65535", "10.0.0.1:9092,[::1]:9092", "[fe80::1%eth0]:9092"]
)
def test_addresses_of_brokers(addresses: str):
    assert load_settings(kafka_bootstrap_servers=addresses).bootstrap == addresses


@pytest.mark.parametrize(
    ("addresses", "wrong"),
    [
        ("localhost:abc", "localhost:abc"),
        ("localhost", "localhost"),
        ("a:1,b", "b"),
        ("a:1,", ""),
        ("a:0", "a:0"),
        ("a:65536", "a:65536"),
        ("a:\u0663", "a:\u0663"),  # a digit, but not to Kafka
        ("::1:9092", "::1:9092"),
        ("[::g]:9092", "[::g]:9092"),
        ("[::1]", "[::1]"),
        ("kafka://a:9092", "kafka://a:9092"),
        ("a b:9092", "a b:9092"),
        ("", ""),
    ],
)
def test_what_is_no_address_is_named(addresses: str, wrong: str):
    with pytest.raises(SettingsError) as caught:
        load_settings(kafka_bootstrap_servers=addresses)
    assert f"kafka_bootstrap_servers: address is {wrong!r}; expected host:port" in str(caught.value)


@pytest.mark.parametrize(
    "command", [("edge", "--simulate", "fan-1"), ("alerts",), ("worker",)], ids=lambda command: command[0]
)
def test_every_command_refuses_a_wrong_address_alike(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run([*command, "--bootstrap", "localhost:abc"]) == SettingsError.exit_code
    assert "address is 'localhost:abc'" in capsys.readouterr().err
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", "kafka:port")
    assert run([*command]) == SettingsError.exit_code
    assert "address is 'kafka:port'" in capsys.readouterr().err


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match="is no file"):
        load_settings()


def test_settings_can_not_be_changed():
    with pytest.raises(ValidationError):
        load_settings().batch_frames = 1  # type: ignore[misc]


# How they are shown


def shown(env: dict[str, str]) -> tuple[dict[str, dict[str, Any]], str]:
    done = run_whirr("settings", "--json", env=env)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return {row["name"]: row for row in orjson.loads(line)["settings"]}, done.stderr


def test_each_setting_is_shown_with_its_source(file: Path):
    file.write_text('batch_frames = 32\nweb_port = 1\n[[route]]\nmodel = "all.onnx"\n')
    rows, _ = shown({"WHIRR_WEB_PORT": "7000"})
    assert set(rows) == set(Settings.model_fields)
    assert all(row["description"] for row in rows.values())
    assert (rows["web_port"]["value"], rows["web_port"]["source"]) == (7000, "env WHIRR_WEB_PORT")
    assert (rows["batch_frames"]["value"], rows["batch_frames"]["source"]) == (32, str(file))
    assert rows["frames_topic"]["source"] == "default"
    assert rows["route"]["value"][0]["match"] == "*"


def test_secrets_are_masked_wherever_they_stand(file: Path):
    file.write_text('mlflow_tracking_uri = "postgresql://me:hunter2@db/mlflow"\n')
    for arguments in (["settings"], ["settings", "--json"]):
        done = run_whirr(*arguments, env={"WHIRR_MLFLOW_PASSWORD": "s3cret"})
        assert "hunter2" not in done.stdout + done.stderr
        assert "s3cret" not in done.stdout + done.stderr
        assert f"me:{MASK}@db" in done.stdout


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:p@host/db", f"postgresql://u:{MASK}@host/db"),
        ("postgresql://u:p@ss@host/db", f"postgresql://u:{MASK}@host/db"),
        ("postgresql://u:p:q/r@host:5432/db", f"postgresql://u:{MASK}@host:5432/db"),
        ("postgresql://u:p?w@host/db", f"postgresql://u:{MASK}@host/db"),
        ("postgresql://u:p?a=b@host/db", f"postgresql://u:{MASK}@host/db"),
        ("postgresql://u@org:p@host/db", f"postgresql://u@org:{MASK}@host/db"),
        ("http://u@host:5000/?a=b", "http://u@host:5000/?a=b"),
        ("redis://:p@host:6379/0", f"redis://:{MASK}@host:6379/0"),
        (
            "postgresql://u:p/w@host/db?password=hunter2&sslmode=on",
            f"postgresql://u:{MASK}@host/db?password={MASK}&sslmode=on",
        ),
        ("postgresql://host/db?sslPassword=a;b#c@d", f"postgresql://host/db?sslPassword={MASK}"),
        ("https://host/?a=1&access_token=x&api-key=y&b=2", f"https://host/?a=1&access_token={MASK}&api-key={MASK}&b=2"),
        ("https://u:p@host/?mail=me@b.org", f"https://u:{MASK}@host/?mail=me@b.org"),
        ("http://host:5000/a@b", f"http://host:{MASK}@b"),  # more than needed: it could be a password
        ("http://host:5000", "http://host:5000"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("a:1, b:2", "a:1, b:2"),
    ],
)
def test_addresses_are_shown_without_what_could_be_a_password(address: str, expected: str):
    current = Settings.model_construct(**{**load_settings().model_dump(), "mlflow_tracking_uri": address})
    (row,) = (row for row in show(current, {}, Path("none.toml")) if row.name == "mlflow_tracking_uri")
    assert row.value == expected


def test_a_secret_in_the_file_is_warned_of(file: Path):
    file.write_text('mlflow_password = "s3cret"\n')
    _, warnings = shown({})
    assert "WHIRR_MLFLOW_PASSWORD" in warnings
    assert "s3cret" not in warnings


def test_a_misspelt_variable_is_named_with_the_closest_setting():
    rows, warnings = shown({"WHIRR_KAFKA_BOOTSTRAP_SERVER": "kafka:9092"})
    assert rows["kafka_bootstrap_servers"]["value"] is None
    assert "did you mean WHIRR_KAFKA_BOOTSTRAP_SERVERS?" in warnings


def test_only_whirrs_own_variables_are_judged():
    fine = {"PATH": "", "WHIRR_SETTINGS_FILE": "", "WHIRR_TEST_REDIS_URL": "", "whirr_web_port": "1"}
    assert unknown_variables(fine) == []
    (warning,) = unknown_variables({"WHIRR_ZZZ": "1"})
    assert warning == "WHIRR_ZZZ is no setting"


def test_the_table_shows_routes_readably(file: Path):
    file.write_text('[[route]]\nmatch = "pump-*"\nmodel = "pumps.onnx"\nk = 2\n')
    done = run_whirr("settings", env={"COLUMNS": "200"})
    assert "pump-* -> pumps.onnx, k 2" in done.stdout


def test_the_table_shows_maintenance_windows_readably(file: Path):
    file.write_text(f"{WINDOW}rule = 'FREQ=WEEKLY'\ntimezone = 'Europe/Berlin'\nnote = 'greased'\n")
    done = run_whirr("settings", env={"COLUMNS": "200"})
    assert "pump-* from 2026-01-03T22:00:00Z Europe/Berlin for 8h, FREQ=WEEKLY, greased" in done.stdout


def test_a_wrong_setting_ends_the_program_with_one_readable_line():
    done = run_whirr("settings", env={"WHIRR_WEB_PORT": "x"})
    assert done.returncode == SettingsError.exit_code
    assert done.stderr.startswith("error: settings: web_port:")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("table", [Route, MaintenanceWindow])
def test_every_field_of_a_table_is_described(table: type[BaseModel]):
    assert all(field.description for field in table.model_fields.values())
