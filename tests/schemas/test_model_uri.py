"""Names of models in the registry: a machine's own, and back."""

from __future__ import annotations

import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SettingsError
from schemas.machine_name import MAX_MODEL_NAME, machine_of, name_of
from schemas.model_uri import ModelTemplate, ModelUri
from whirr.settings import load_settings

machine_ids = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=128)
tricky_ids = st.text("._:-a", min_size=1, max_size=12)
names = st.text("._-ac", min_size=1, max_size=12)


@given(machine_ids | tricky_ids)
def test_a_machines_name_leads_back_to_it_and_has_no_character_that_a_registry_forbids(machine_id: str):
    name = name_of(machine_id)
    assert machine_of(name) == machine_id
    assert re.fullmatch("[A-Za-z0-9._-]+", name)
    assert name == machine_id or ":" in machine_id or "_-" in machine_id


@given(tricky_ids, tricky_ids)
def test_two_machines_never_share_a_name(one: str, other: str):
    assert (name_of(one) == name_of(other)) == (one == other)


@given(names)
def test_a_name_is_one_machines_or_nobodys(name: str):
    machine_id = machine_of(name)
    assert machine_id is None or name_of(machine_id) == name


@pytest.mark.parametrize(
    ("machine_id", "name"), [("pump-7", "pump-7"), ("hall2:pump_7", "hall2_-.pump_7"), ("a_-b", "a_--b")]
)
def test_what_is_documented_holds(machine_id: str, name: str):
    assert name_of(machine_id) == name


@pytest.mark.parametrize("name", ["a_-b", "a_-", "", "x" * 129, "a/b", "a%3Ab"])
def test_what_is_no_machines_name_leads_nowhere(name: str):
    assert machine_of(name) is None


# Routes


def test_a_template_names_each_machines_model_and_knows_whose_a_model_is():
    template = ModelTemplate.parse("models:/whirr.{machine}.v@champion")
    assert template is not None
    uri = template.uri("hall2:pump-7")
    assert str(uri) == "models:/whirr.hall2_-.pump-7.v@champion"
    assert ModelUri.parse(str(uri)) == uri
    assert template.machine(uri.name) == "hall2:pump-7"
    assert [template.machine(name) for name in ("whirr..v", "whirr.pump-7", "other.pump-7.v")] == [None] * 3
    assert str(template) == "models:/whirr.{machine}.v@champion"
    assert str(template.with_alias("challenger")) == "models:/whirr.{machine}.v@challenger"


@pytest.mark.parametrize("text", ["model.onnx", "models:/pump@champion", "models:/pump/3", "odd{name}.onnx"])
def test_one_model_for_all_is_no_template(text: str):
    assert ModelTemplate.parse(text) is None


def test_any_id_without_a_colon_fits_a_template_of_the_longest():
    template = ModelTemplate.parse("models:/" + "w" * 64 + "{machine}@champion")
    assert template is not None
    assert len(template.uri("m" * 128).name) <= MAX_MODEL_NAME


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models/{machine}.onnx", "a path with {machine}"),
        ("models:/{plant}.{machine}@champion", "the only placeholder is {machine}"),
        ("models:/whirr.{machine@champion", "the only placeholder is {machine}"),
        ("models:/{machine}.{machine}@champion", "more than once"),
        ("models:/whirr.{machine}/3", "with an alias"),
        ("models:/whirr.{machine}", "with an alias"),
        ("models:/whirr/{machine}@champion", "with an alias"),
        ("models:/{machine}@champion", "a name of letters or digits before {machine}"),
        ("models:/" + "w" * 65 + "{machine}@champion", "65 characters around {machine}; expected at most 64"),
    ],
)
def test_a_wrong_template_is_refused_with_what_was_expected(text: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHIRR_ROUTE", json.dumps([{"model": text}]))
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings()


def test_a_route_takes_a_template(monkeypatch: pytest.MonkeyPatch):
    text = "models:/whirr.{machine}@champion"
    monkeypatch.setenv("WHIRR_ROUTE", json.dumps([{"model": text}]))
    assert load_settings().route[0].model == text
