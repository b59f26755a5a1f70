"""Benchmark of the recorder."""

from benchmarks.recording import main


def test_the_share_of_the_emulators_speed_is_printed(capsys):
    main(["ALE/Breakout-v5", "--frames", "40", "--rounds", "3"])
    printed = capsys.readouterr().out
    assert printed.startswith("ALE/Breakout-v5, 40 frames, 3 rounds: ")
    assert float(printed.split(": ")[1].split(" ")[0]) > 0
