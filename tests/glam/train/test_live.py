import io

from rich.console import Console

from glam.train.live import LiveScreen, summary

FACTS = {
    "step": 3,
    "loss": 2.5,
    "tokens_per_second": 1000.0,
    "mfu": 0.25,
    "load_ratio": 1.5,
    "dropped": 0.125,
    "dead_experts": 2,
    "skipped_in_all": 0,
}


def test_a_step_on_one_line():
    assert summary(FACTS, 2000.0) == (
        "loss 2.5000  2,000 tokens/s  MFU 50.0%  load max/mean 1.50  dropped 12.5%  "
        "dead 2"
    )


def test_what_is_not_known_is_said():
    told = {"loss": None, "skipped_in_all": 4, "tokens_per_second": 1.0, "mfu": None}
    assert summary(told, 1.0) == "loss NaN  1 tokens/s  MFU unknown  skipped 4"


def test_without_a_terminal_first_and_last_are_lines():
    out = io.StringIO()
    with LiveScreen(5, Console(file=out, width=200)) as screen:
        for number in range(1, 6):
            screen.step({**FACTS, "step": number})
        screen.say("[not markup]")
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == ["step 1/5", "step 5/5"]
    assert lines[-1] == "[not markup]"


def test_on_a_terminal_there_is_a_live_line():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with LiveScreen(5, console) as screen:
        screen.step(FACTS)
    assert "3/5" in out.getvalue()
    assert "dropped 12.5%" in out.getvalue()
