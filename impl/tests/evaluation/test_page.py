"""The HTML page of an evaluation."""

import pytest
import torch

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra train")

from dreamer4_impl.evaluation.bars import judge_bars, parse_bar
from dreamer4_impl.evaluation.evaluation import SECTIONS, Evaluation
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.output.page import to_html
from dreamer4_impl.evaluation.results import Pictures

SCRIPT = "<script>alert('&')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;"


def test_script_in_the_name_of_run_task_or_dataset_is_escaped():
    facts = {"checkpoint": {"path": "/runs/<script>alert(1)/checkpoints/step-1"}, "dataset": {"tasks": [SCRIPT]}}
    page = to_html(Evaluation(facts=facts))
    assert "<script" not in page
    assert "<title>Evaluation of &lt;script&gt;alert(1), step-1</title>" in page
    assert f"<dt>dataset.tasks</dt><dd>{ESCAPED}</dd>" in page


def test_script_in_notes_reasons_bars_and_captions_is_escaped():
    frames = torch.zeros(2, 4, 4, 1, dtype=torch.uint8)
    evaluation = Evaluation(
        measures={"tokenizer.model.psnr": Measure(1, 1, 1, n=2)},
        skipped={"game": SCRIPT},
        notes={"tokenizer": [SCRIPT]},
        pictures=[Pictures(SCRIPT, {'" onload="alert(1)': frames}, context=1)],
    )
    page = to_html(evaluation, judge_bars([parse_bar("tokenizer.model.psnr < 2")], evaluation.measures))
    assert "<script" not in page
    assert f"Skipped: {ESCAPED}." in page
    assert f"<p>{ESCAPED}</p>" in page
    assert '" onload="' not in page
    assert "<code>tokenizer.model.psnr &lt; 2</code>" in page


def test_page_of_an_empty_evaluation_has_every_section():
    page = to_html(Evaluation())
    assert all(f'<h2 id="{section}">' in page for section in SECTIONS)
    assert "Bars" not in page
