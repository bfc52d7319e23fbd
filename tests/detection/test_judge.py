"""A tiny vision-language model with random weights as a judge; nothing is downloaded."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gammascope import losses
from gammascope.data.manifest import read_manifest
from gammascope.detection import fusion
from gammascope.detection.judge import (
    Judge,
    JudgeSettings,
    Pairs,
    preference,
    scrambled,
    tune,
)
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.sample import Label


@pytest.fixture
def folder(tiny_llava: Path) -> Path:
    return tiny_llava


@pytest.fixture
def judge(folder) -> Judge:
    torch.manual_seed(1)
    return Judge.load(folder)


def picture(seed: int = 0, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def pairs(judge: Judge, count: int = 4):
    return [preference(picture(n), Label(n % 2), judge.how) for n in range(count)]


def test_only_adapters_of_the_language_half_are_trained(judge):
    trained = [name for name, p in judge.model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name and "language_model" in name for name in trained)


def test_the_preference_loss_is_the_formula():
    now, start = (
        torch.tensor([[-3.0, -1.0], [-5.0, -1.5]]),
        torch.tensor([[-4.0, -1.0], [-4.5, -2.0]]),
    )
    expected = np.mean(
        [
            -math.log(1 / (1 + math.exp(-0.05 * ((-3.0 + 4.0) - (-5.0 + 4.5))))),
            -math.log(1 / (1 + math.exp(-0.05 * ((-1.0 + 1.0) - (-1.5 + 2.0))))),
        ]
    )
    assert float(losses.preference(now, start, beta=0.05)) == pytest.approx(expected, abs=1e-7)


def test_before_the_first_step_the_loss_is_ln_2(judge):
    for pair in pairs(judge):
        assert float(judge.preference_loss(pair, 0.05).detach()) == pytest.approx(
            math.log(2), abs=1e-5
        )


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_tuning_raises_the_margin_of_the_better_answers(judge, objective):
    some = pairs(judge)

    def margin() -> float:
        with torch.no_grad():
            return float(
                sum(
                    judge.log_probability(p.image, p.chosen)
                    - judge.log_probability(p.image, p.rejected)
                    for p in some
                )
            )

    before, image = margin(), some[0].image
    with torch.no_grad():
        own = judge.log_probability(image, "This picture is real .")
    told = tune(
        judge, some, objective=objective, beta=0.5, learning_rate=5e-3, epochs=10, accumulate=4
    )
    assert told[-1] < told[0]
    assert margin() > before
    with torch.no_grad():
        assert not torch.equal(judge.log_probability(image, "This picture is real ."), own)
        with judge.untuned():
            assert torch.equal(judge.log_probability(image, "This picture is real ."), own)
    assert any(p.requires_grad for p in judge.model.parameters())


def test_the_question_is_not_part_of_the_score(judge):
    answer = "This picture is real ."
    inputs, count = judge._inputs(picture(), answer)
    assert count == 5
    with torch.no_grad():
        logits = judge.model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    places = range(len(ids) - count, len(ids))
    expected = sum(float(logits[place - 1, ids[place]]) for place in places) / count
    with torch.no_grad():
        assert float(judge.log_probability(picture(), answer)) == pytest.approx(expected, abs=1e-5)


def test_swapping_the_verdicts_turns_the_score_around(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    found: list[float] = []
    for verdicts in (("This is real .", "This is fake ."), ("This is fake .", "This is real .")):
        how = JudgeSettings(str(folder), question="light", verdicts=verdicts)
        torch.manual_seed(1)
        judge = Judge(
            AutoModelForImageTextToText.from_pretrained(folder),
            AutoProcessor.from_pretrained(folder),
            how,
        )
        found.append(judge.scores_of([picture()])[0].logit)
    assert found[0] != 0
    assert found[0] == pytest.approx(-found[1], abs=1e-6)


def test_pictures_of_any_size_are_judged_and_explained(judge):
    logits = [
        scores.logit for scores in judge.scores_of([picture(1, (28, 90)), picture(2, (9, 7))])
    ]
    assert np.isfinite(logits).all()
    assert isinstance(judge.explain(picture(), longest=4), str)


def test_a_saved_judge_scores_equally(judge, tmp_path):
    tune(judge, pairs(judge), learning_rate=1e-2, accumulate=1)
    judge.save(tmp_path / "judge")
    again = Judge.load(tmp_path / "judge")
    assert again.scores_of([picture()])[0].logit == judge.scores_of([picture()])[0].logit
    assert again.weights_sha256 == judge.weights_sha256
    assert sorted(p.name for p in (tmp_path / "judge").iterdir()) == [
        "adapter.safetensors",
        "judge.json",
    ]


def test_an_adapter_of_another_model_is_refused(judge, tmp_path):
    from safetensors.torch import save_file

    judge.save(tmp_path / "judge")
    save_file({"a": torch.ones(1)}, tmp_path / "judge" / "adapter.safetensors")
    with pytest.raises(IncompatibleCheckpointError, match="another model"):
        Judge.load(tmp_path / "judge")


def test_no_model_and_no_pair_are_missing(judge, tmp_path):
    with pytest.raises(MissingDataError, match="No model with its processor"):
        Judge.load(tmp_path)
    with pytest.raises(MissingDataError, match="No pair"):
        tune(judge, [])


def test_a_judge_is_a_member_of_a_fusion_but_not_its_first(judge):
    from gammascope.detection.pipeline import Pipeline

    expert = Pipeline.load()
    plan = fusion.Plan("any", ("expert", "judge"))
    both = fusion.Fused([expert, judge], plan)
    image = picture()
    wanted = max(
        fusion.log_odds(member, member.scores_of([image])[0]) for member in (expert, judge)
    )
    assert both.scores(image).answers["generated"] == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(RecipeError, match="no views to show"):
        fusion.Fused([judge, expert], plan)


def test_scrambling_takes_detail_away_and_is_the_same_every_time():
    image = picture(size=(64, 80))
    once = scrambled(image, "a.jpg")
    assert once.shape == image.shape
    assert np.array_equal(once, scrambled(image, "a.jpg"))
    assert not np.array_equal(once, scrambled(image, "b.jpg"))
    assert (
        np.abs(np.diff(once.astype(float), axis=1)).mean()
        < np.abs(np.diff(image.astype(float), axis=1)).mean() / 2
    )


def test_the_label_chooses_the_better_answer():
    how = JudgeSettings("base")
    pair = preference(picture(), Label.FAKE, how, ("Plain.", "Six fingers."))
    assert pair.chosen == "This picture is fake. Six fingers."
    assert pair.rejected == "This picture is real. Plain."


def test_an_answer_in_free_words_is_read_or_undecided(judge, monkeypatch):
    for words, verdict in {
        "This picture is fake . because of light": "fake",
        " this PICTURE is real.": "real",
        "The picture is fake.": "undecided",
        "I cannot say.": "undecided",
        "": "undecided",
    }.items():
        assert judge.read(words) == verdict
    image = np.full((30, 30, 3), 90, np.uint8)
    verdict, said = judge.verdict(image, longest=5)
    assert said == judge.explain(image, longest=5)
    assert verdict == judge.read(said)
    alike = replace(judge.how, verdicts=("This picture", "This picture is fake."))
    monkeypatch.setattr(judge, "how", alike)
    assert judge.read("This picture is fake.") == "undecided", "both begin so"


def test_pairs_are_made_of_a_manifest_one_at_a_time(judge, collection):
    entries = read_manifest(collection)
    pairs = Pairs(entries, judge.how)
    assert len(pairs) == len([e for e in entries if e.kind is None and e.host_path is None])
    assert len(pairs[:2]) == 2
    for number, entry in enumerate(pairs.entries[:4]):
        pair = pairs[number]
        right = judge.how.verdicts[entry.label]
        assert (pair.chosen, pair.rejected != right) == (right, True)
        assert np.array_equal(pair.image, pairs[number].image)
    with pytest.raises(MissingDataError, match="on photos and on generated pictures"):
        Pairs([entry for entry in entries if entry.label is Label.REAL], judge.how)
