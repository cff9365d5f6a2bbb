"""Registered models: what a version carries, and how one becomes champion; on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mlflow
import numpy as np
import orjson
import pytest
from mlflow.tracking import MlflowClient

from commands import run
from schemas.champion_tags import FROM_TAG, Term, terms
from schemas.errors import ModelError, PromotionRefused, ServiceUnavailable
from schemas.model_uri import MODEL_FILE
from stream_app.pipeline import Model, golden_array
from tests.registered_models import register, sound_model
from trainer.promotion import FalseAlarmCount, tolerance, worse_in_auc, worse_in_false_alarms
from trainer.registration import write_mlflow_model
from trainer.registry import Registry
from whirr import __version__
from whirr.settings import Settings, load_settings

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    return Registry(mlflow_settings)


def registry_of(settings: Settings, now_us: int | None = None) -> Registry:
    return Registry(settings) if now_us is None else Registry(settings, lambda: now_us)


@pytest.fixture
def cli(mlflow_settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run ``whirr models``; return its exit code and what it printed on both streams."""
    monkeypatch.setenv("WHIRR_MLFLOW_TRACKING_URI", mlflow_settings.mlflow_tracking_uri)

    def call(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(["models", *args])
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return call


# What a version carries


def test_the_first_version_is_champion_and_the_newest_challenger(registry, mlflow_settings, model_name, tmp_path):
    first, file = register(mlflow_settings, tmp_path, model_name)
    assert registry.version(model_name).aliases == ("challenger", "champion")
    second, _ = register(mlflow_settings, tmp_path, model_name, "2", above=1)
    newest, oldest = registry.versions(model_name)
    assert (first, second) == (oldest.version, newest.version) == (1, 2)
    assert (oldest.aliases, newest.aliases) == (("champion",), ("challenger",))
    assert (newest.detector, newest.model_version, newest.alert_threshold) == ("level", "2", 1.0)
    assert newest.false_alarms == FalseAlarmCount(100, 1)
    assert newest.run_id == Model.load(tmp_path / f"{model_name}-2.onnx").metadata.run_id
    assert oldest.tags["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert oldest.tags["whirr_version"] == __version__
    assert oldest.tags["data_hash"] == "0" * 64


def test_the_file_arrives_byte_for_byte_and_scores_its_golden_windows(mlflow_settings, model_name, tmp_path):
    number, file = register(mlflow_settings, tmp_path, model_name)
    client = MlflowClient(mlflow_settings.mlflow_tracking_uri)
    source = client.get_model_version_download_uri(model_name, str(number))
    folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(tmp_path / "there")))
    assert (folder / MODEL_FILE).read_bytes() == file.read_bytes()
    Model.load(folder / MODEL_FILE)


def test_mlflow_loads_it_with_signature_example_and_metadata(tmp_path):
    file = sound_model(tmp_path / "m.onnx", "tiny")
    metadata = Model.load(file).metadata
    write_mlflow_model(tmp_path / "model", file, metadata)
    described = mlflow.models.Model.load(str(tmp_path / "model"))
    ((name, shape, kind),) = [(part.name, part.shape, part.type) for part in described.signature.inputs]
    assert (name, shape, kind) == ("log_mel", (-1, 1, 128, 30), np.dtype(np.float32))
    outputs = {part.name: part.shape for part in described.signature.outputs}
    assert outputs == {"score": (-1,), "band_error": (-1, 1, 128)}
    assert (described.metadata["detector"], described.metadata["version"]) == ("level", "1")
    example = described.load_input_example(str(tmp_path / "model"))
    answer = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(example)
    assert answer["score"][0] == pytest.approx(metadata.golden[0].score)
    np.testing.assert_array_equal(example["log_mel"][0], golden_array(metadata.golden[0]))


# The gate


def test_the_tolerance_is_what_counting_explains():
    few, many = FalseAlarmCount(100, 0), FalseAlarmCount(10_000, 0)
    assert tolerance(few, few) == pytest.approx(1.645 * np.sqrt(1 / 202 * (1 - 1 / 202) * 2 / 100))
    assert tolerance(many, many) < tolerance(few, few) / 10
    assert worse_in_false_alarms(few, FalseAlarmCount(100, 3)) is None
    assert "5.00% (5 of 100" in worse_in_false_alarms(few, FalseAlarmCount(100, 5))
    assert worse_in_false_alarms(FalseAlarmCount(100, 5), few) is None
    assert "carries no" in worse_in_false_alarms(None, few)


def test_chance_refuses_an_equal_challenger_in_one_case_of_twenty():
    rng = np.random.default_rng(0)
    counts = rng.binomial(400, 0.05, (4000, 2))
    refused = [worse_in_false_alarms(FalseAlarmCount(400, a), FalseAlarmCount(400, b)) is not None for a, b in counts]
    assert 0.03 < np.mean(refused) < 0.06


def test_an_auc_may_be_a_little_lower():
    assert worse_in_auc(0.9, 0.89) is None
    assert "0.8800" in worse_in_auc(0.9, 0.88)


def test_a_challenger_is_promoted_and_rolled_back_step_by_step(registry, mlflow_settings, model_name, tmp_path):
    for version in ("1", "2", "3"):
        register(mlflow_settings, tmp_path, model_name, version)
    assert registry.promote(model_name, "2").before.version == 1
    promotion = registry.promote(model_name)
    assert (promotion.champion.version, promotion.overridden) == (3, ())
    assert "champion" in promotion.champion.aliases
    with pytest.raises(ModelError, match="already"):
        registry.promote(model_name)
    assert registry.rollback(model_name).champion.version == 2
    assert registry.rollback(model_name).champion.version == 1
    with pytest.raises(ModelError, match="no champion before it"):
        registry.rollback(model_name)
    assert registry.version(model_name).version == 1


def test_a_worse_challenger_is_refused_unless_forced(registry, mlflow_settings, model_name, tmp_path):
    register(mlflow_settings, tmp_path, model_name)
    register(mlflow_settings, tmp_path, model_name, "2", above=20)
    with pytest.raises(PromotionRefused, match=r"false-alarm rate is 20\.00%"):
        registry.promote(model_name)
    assert registry.version(model_name).version == 1
    promotion = registry.promote(model_name, force=True)
    assert promotion.champion.version == 2
    assert "20.00%" in promotion.champion.tags["promotion_forced"]


def test_a_challenger_that_tells_faults_less_well_is_refused(registry, mlflow_settings, model_name, tmp_path):
    register(mlflow_settings, tmp_path, model_name)
    register(mlflow_settings, tmp_path, model_name, "2")
    judged = {"1": 0.9, "2": 0.8}
    with pytest.raises(PromotionRefused, match=r"AUC is 0\.8000"):
        registry.promote(model_name, judge=lambda path: judged[Model.load(path).metadata.version])
    judged["2"] = 0.95
    assert registry.promote(model_name, judge=lambda path: judged[Model.load(path).metadata.version])


def test_a_champion_has_what_is_recorded_from_a_minute_later_on(mlflow_settings, model_name, tmp_path):
    for version in ("1", "2", "3"):
        register(mlflow_settings, tmp_path, model_name, version)
    at = [NOON + minutes * 600_000_000 for minutes in (1, 2, 3)]
    minute = 60_000_000
    registry_of(mlflow_settings, at[0]).promote(model_name, "2", by="ana", because="drift")
    promoted = registry_of(mlflow_settings, at[1]).promote(model_name).champion
    assert terms(3, promoted.tags) == (Term(3, at[1] + minute), Term(2, at[0] + minute), Term(1, None))
    before = registry_of(mlflow_settings, at[2]).rollback(model_name, because="loud", by="me").champion
    assert terms(2, before.tags) == (Term(2, at[2] + minute), *terms(3, promoted.tags))
    assert (before.tags["promoted_by"], before.tags["promoted_because"]) == ("ana", "drift")
    patient = mlflow_settings.model_copy(update={"model_poll_s": 100.0})
    slower = registry_of(patient, at[2]).promote(model_name, "1").champion
    assert terms(1, slower.tags)[0].from_us == at[2] + 5 * minute
    stated = registry_of(mlflow_settings).promote(model_name, "2", from_us=at[2] + 6 * minute).champion
    assert terms(2, stated.tags)[0].from_us == at[2] + 6 * minute


def test_a_clock_that_was_set_back_does_not_put_champions_out_of_order(mlflow_settings, model_name, tmp_path):
    for version in ("1", "2", "3"):
        register(mlflow_settings, tmp_path, model_name, version)
    registry_of(mlflow_settings).promote(model_name, "2", from_us=NOON)
    promoted = registry_of(mlflow_settings, NOON - 3_600_000_000).promote(model_name).champion
    assert terms(3, promoted.tags) == (Term(3, NOON + 1), Term(2, NOON), Term(1, None))


def test_the_first_version_may_say_from_when_on_frames_are_its(registry, mlflow_settings, model_name, tmp_path):
    register(mlflow_settings, tmp_path, model_name, first_from_us=NOON)
    register(mlflow_settings, tmp_path, model_name, "2", first_from_us=NOON)
    assert terms(1, registry.version(model_name).tags) == (Term(1, NOON),)
    assert terms(2, registry.version(model_name, "2").tags) == (Term(2, None),)


def test_what_was_rolled_back_is_no_challenger_and_not_promoted_unless_forced(
    registry, mlflow_settings, model_name, tmp_path
):
    for version in ("1", "2", "3"):
        register(mlflow_settings, tmp_path, model_name, version)
    registry.challenge(model_name, "2", because="drift")
    assert registry.version(model_name, "challenger").version == 2
    registry.promote(model_name)
    registry.rollback(model_name, because="it alerts too often")
    with pytest.raises(ModelError, match="no version 'challenger'"):
        registry.version(model_name, "challenger")
    for try_it in (registry.promote, registry.challenge):
        with pytest.raises(PromotionRefused, match=r"it was rolled back at .* \(it alerts too often\)"):
            try_it(model_name, "2")
    assert registry.promote(model_name, "2", force=True).champion.version == 2
    registry.challenge(model_name, "3")
    with pytest.raises(ModelError, match="can't challenge itself"):
        registry.challenge(model_name, "2")


def test_a_challenger_may_be_dropped(registry, mlflow_settings, model_name, tmp_path):
    for version in ("1", "2"):
        register(mlflow_settings, tmp_path, model_name, version)
    dropped = registry.drop(model_name, because="deaf", by="the gate")
    assert (dropped.version, dropped.aliases) == (2, ())
    assert (dropped.tags["dropped_because"], dropped.tags["dropped_by"]) == ("deaf", "the gate")
    assert registry.drop(model_name) is None
    registry.challenge(model_name, "2")
    registry.promote(model_name)
    at = registry.version(model_name).tags["dropped_at"]
    assert registry.drop(model_name).aliases == ("champion",), "its alias goes, and it is no worse for it"
    assert registry.version(model_name).tags["dropped_at"] == at


CALLS = ("promote", "rollback")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("moment", ["set_model_version_tag", "set_registered_model_alias", "get_registered_model"])
def test_a_crash_at_any_moment_leaves_what_was_or_what_is_wanted_and_a_repetition_gives_it(
    registry, mlflow_settings, model_name, tmp_path, monkeypatch, call, moment
):
    """Of tags the first and the last, the alias, and what is asked when all is done."""
    for version in ("1", "2", "3"):
        register(mlflow_settings, tmp_path, model_name, version)
    registry.promote(model_name, "2")
    was, wanted = (2, 3) if call == "promote" else (2, 1)
    done = {
        "promote": lambda: registry.promote(model_name, "3", again=True),
        "rollback": lambda: registry.rollback(model_name, of=2),
    }[call]
    before = [term.version for term in terms(2, registry.version(model_name).tags)]
    calls = 0
    original = getattr(MlflowClient, moment)
    for number in range(1, 12):
        calls = 0

        def crashing(self, *given, last=number, **named):
            nonlocal calls
            calls += 1
            if calls == last:
                raise KeyboardInterrupt
            return original(self, *given, **named)

        monkeypatch.setattr(MlflowClient, moment, crashing)
        try:
            done()
        except KeyboardInterrupt:
            monkeypatch.undo()
            champion = registry.version(model_name)
            assert champion.version in (was, wanted)
            # A worker that asks now has the same champions before it as ever.
            tail = [term.version for term in terms(champion.version, champion.tags)]
            assert tail == (before if champion.version == was else [wanted, *before])
            continue
        break
    monkeypatch.undo()
    assert calls < number, "the last time it went through"
    again = done()
    assert (again.champion.version, again.before.version) == (wanted, was)
    assert [term.version for term in terms(wanted, again.champion.tags)] == [wanted, *before]


def test_what_is_not_there_is_named(registry, mlflow_settings, model_name, tmp_path):
    with pytest.raises(ModelError, match=f"{model_name}' is not registered"):
        registry.version(model_name)
    register(mlflow_settings, tmp_path, model_name)
    with pytest.raises(ModelError, match=r"no version 'best'.*challenger, champion"):
        registry.version(model_name, "best")
    with pytest.raises(ModelError, match="version 7"):
        registry.version(model_name, "7")


def test_a_registry_that_is_away_is_an_error_of_one_line(tmp_path):
    for uri in ("postgresql://me:secret@127.0.0.1:9/mlflow", f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9"):
        with pytest.raises(ServiceUnavailable, match="can't be reached") as raised:
            Registry(load_settings(mlflow_tracking_uri=uri)).versions()
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)


# The command


def test_the_command_lists_shows_promotes_and_rolls_back(cli, mlflow_settings, model_name, tmp_path):
    for version, above in (("1", 0), ("2", 20), ("3", 1)):
        register(mlflow_settings, tmp_path, model_name, version, above)
    code, out, _ = cli("list", model_name, "--json")
    assert code == 0
    assert [version["version"] for version in orjson.loads(out)["versions"]] == [3, 2, 1]
    code, out, _ = cli("list")
    assert (code, model_name in out, "champion" in out) == (0, True, True)
    code, out, err = cli("promote", model_name, "--version", "2")
    assert (code, out) == (4, "")
    assert "stays challenger" in err
    code, out, _ = cli("promote", model_name, "--json")
    assert (code, orjson.loads(out)["champion"]["version"], orjson.loads(out)["previous"]) == (0, 3, 1)
    code, out, err = cli("promote", model_name, "--version", "2", "--force")
    assert (code, "version 2" in out, "false-alarm rate" in err) == (0, True, True)
    told = cli("rollback", model_name, "--because", "too loud", "--by", "ana")[1]
    assert told.splitlines()[0] == f"version 3 of {model_name} is the champion in place of version 2"
    assert f"from {registry_of(mlflow_settings).version(model_name).tags[FROM_TAG]} on" in told
    marked = registry_of(mlflow_settings).version(model_name, "2").tags
    assert (marked["rolled_back_because"], marked["rolled_back_by"]) == ("too loud", "ana")
    assert cli("rollback", model_name, "--to", "1")[1].startswith(f"version 1 of {model_name} is the champion")
    code, _, err = cli("promote", model_name, "--version", "2")
    assert (code, "it was rolled back at" in err, "(too loud)" in err) == (4, True, True)
    assert cli("promote", model_name, "--version", "3", "--force")[0] == 0
    code, out, _ = cli("show", model_name, "--json")
    assert (code, orjson.loads(out)["version"]) == (0, 3)
    assert "model_version" in cli("show", model_name, "--version", "1")[1]
    code, _, err = cli("show", "nothing")
    assert (code, "not registered" in err) == (2, True)
