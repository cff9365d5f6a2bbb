"""What each extra weighs."""

from typer.testing import CliRunner

from benchmarks import extras_weight


def test_what_is_no_extra_is_named_with_those_that_are() -> None:
    done = CliRunner().invoke(extras_weight.app, ["stream,trian"])
    assert done.exit_code == 2
    assert "'trian'" in done.output
    assert "embedded" in done.output


def test_each_is_printed_and_the_last_line_is_json(monkeypatch) -> None:
    asked: list[list[str]] = []

    def weigh(extras: list[str]) -> extras_weight.Weight:
        asked.append(extras)
        return extras_weight.Weight(2, 1234)

    monkeypatch.setattr(extras_weight, "weigh", weigh)
    done = CliRunner().invoke(extras_weight.app, ["base", "stream,embedded"])
    assert asked == [[], ["stream", "embedded"]]
    *lines, last = done.output.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "base 2 packages 1,234 MB",
        "stream,embedded 2 packages 1,234 MB",
    ]
    assert last == '{"base":{"packages":2,"megabytes":1234},"stream,embedded":{"packages":2,"megabytes":1234}}'
