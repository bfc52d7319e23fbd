"""A tiny vision-language model with random weights as a judge; nothing is downloaded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gammascope import losses
from gammascope.data.manifest import read_manifest
from gammascope.detection import fusion
from gammascope.detection import judge as judging
from gammascope.detection.judge import (
    Judge,
    JudgeSettings,
    Pairs,
    Tuning,
    preference,
    scrambled,
    tune,
    write_reasons,
)
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
    RecipeError,
)
from gammascope.sample import Entry, Label


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
    told = tune(judge, some, Tuning(objective, 0.5, 5e-3, epochs=10, accumulate=4))
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
    tune(judge, pairs(judge), Tuning(learning_rate=1e-2, accumulate=1))
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
    with pytest.raises(MissingDataError, match="no folder 'nope'; a hub id is owner/name"):
        Judge.load("nope")
    with pytest.raises(MissingDataError, match="no such folder here, and the Hugging Face hub"):
        Judge.load("owner/nope")
    with pytest.raises(MissingDataError, match="No pair"):
        tune(judge, [], Tuning())


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
    for number, entry in enumerate(pairs.entries[:4]):
        pair = pairs[number]
        right = judge.how.verdicts[entry.label]
        assert (pair.chosen, pair.rejected != right) == (right, True)
        assert np.array_equal(pair.image, pairs[number].image)
    with pytest.raises(MissingDataError, match="on photos and on generated pictures"):
        Pairs([entry for entry in entries if entry.label is Label.REAL], judge.how)


def test_pictures_that_cannot_be_read_are_named_and_left_out(collection, tmp_path):
    entries = [entry for entry in read_manifest(collection) if entry.host_path is None]
    torn, gone = tmp_path / "torn.png", tmp_path / "gone.png"
    torn.write_bytes(b"no picture")
    broken = [Entry(torn, Label.FAKE, source="torn"), Entry(gone, Label.REAL)]
    found = Pairs([*broken, *entries], JudgeSettings("base"))
    assert found.entries == entries
    assert found.sources == {entry.source for entry in entries}
    assert [line.partition(":")[0] for line in found.broken] == [str(torn), str(gone)]
    with pytest.raises(MissingDataError, match="2 more cannot be read"):
        Pairs([*broken, entries[0]], JudgeSettings("base"))


def test_a_judge_knows_all_that_it_was_ever_tuned_on(judge, tmp_path):
    assert judge.facts.never_saw(Entry(Path("a.png"), Label.REAL, source="one"))
    for source in ("one", "two"):
        tune(judge, pairs(judge), Tuning(), sources=[source])
        judge.save(tmp_path / source)
        judge = Judge.load(tmp_path / source)
    assert judge.facts.seen == ("one", "two")
    assert judge.how.tuning == Tuning()


def test_one_of_unknown_sources_may_have_seen_any(judge):
    tune(judge, pairs(judge), Tuning())
    assert not judge.facts.never_saw(Entry(Path("a.png"), Label.REAL, source="one"))


def test_an_interrupted_tuning_goes_on_to_the_same_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "_UPDATES_BETWEEN_STATES", 2)

    def begun() -> Judge:
        torch.manual_seed(1)
        return Judge.load(folder)

    how, whole, torn = Tuning(learning_rate=1e-2, epochs=3, accumulate=3, seed=3), begun(), begun()
    told = tune(whole, pairs(whole), how)

    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(torn, pairs(torn), how, state=tmp_path / "state.pt", report=stop)
    done = []
    again = begun()
    assert told == tune(
        *(again, pairs(again), how),
        state=tmp_path / "state.pt",
        report=lambda number, _: done.append(number),
    )
    assert done == [9, 10, 11, 12], "two updates of three pairs and of one make an epoch"
    assert again.weights_sha256 == whole.weights_sha256
    with pytest.raises(RecipeError, match="on 4 pictures, not on 3"):
        tune(begun(), pairs(whole, 3), how, state=tmp_path / "state.pt")


def test_the_folder_of_the_model_is_found_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    judge = Judge.load(folder.name)
    judge.save(tmp_path / "judge")
    monkeypatch.chdir(tmp_path)
    moved = (tmp_path / "judge").rename(tmp_path / "moved")
    assert Judge.load("moved").weights_sha256 == judge.weights_sha256
    assert Judge.load(moved).how.base == str(folder)


def test_a_model_inside_the_folder_of_its_judge_moves_along(folder, tmp_path):
    (tmp_path / "judge").mkdir()
    model = tmp_path / "judge" / "model"
    model.symlink_to(folder)
    judge = Judge.load(model)
    judge.save(tmp_path / "judge")
    assert json.loads((tmp_path / "judge" / "judge.json").read_text())["base"] == "./model"
    moved = (tmp_path / "judge").rename(tmp_path / "moved")
    assert Judge.load(moved).weights_sha256 == judge.weights_sha256


def test_a_model_that_is_gone_is_not_looked_for_on_the_hub(judge, tmp_path):
    for base in ("./model", str(tmp_path / "model")):
        judge.save(tmp_path / "judge")
        file = tmp_path / "judge" / "judge.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base": base}))
        with pytest.raises(MissingDataError, match=r"model, which is gone: bring it back"):
            Judge.load(tmp_path / "judge")


def test_a_package_that_a_processor_wants_is_named(folder, monkeypatch):
    import transformers

    def wanting(_):
        raise ImportError(
            "\nQwen2VLVideoProcessor requires the Torchvision library. Check out the instructions on the\npage"
        )

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", wanting)
    with pytest.raises(MissingExtraError, match=r"requires the Torchvision library\. Get it"):
        Judge.load(folder)


def test_reasons_are_written_once_and_follow_the_verdicts(judge, collection, tmp_path, monkeypatch):
    found = Pairs(read_manifest(collection), judge.how)
    asked = []

    def explain(_, image, *, begun):
        asked.append(begun)
        return f" because {begun[-5:-1]}"

    monkeypatch.setattr(Judge, "explain", explain)
    place = tmp_path / "reasons.jsonl"
    found.reasons = write_reasons(judge, found, place)
    assert len(asked) == 2 * len(found)
    for number, entry in enumerate(found.entries):
        answers = "This picture is real. because real", "This picture is fake. because fake"
        pair = found[number]
        assert (pair.chosen, pair.rejected) == (answers[entry.label], answers[1 - entry.label])
    # An interruption leaves half a line: only that picture's reasons are written again.
    place.write_text(place.read_text()[:-9])
    assert write_reasons(judge, found, place) == found.reasons
    assert len(asked) == 2 * len(found) + 2


class QwenStub:
    """What Qwen2.5-VL's processor does: patches of 14 pixels in rows of merged squares, and a token for each square."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, messages, *, add_generation_prompt):
        assert add_generation_prompt
        parts = messages[0]["content"]
        return "user " + " ".join(p.get("text", "<image>") for p in parts) + " assistant"

    def __call__(self, *, text, images, return_tensors):
        (picture,) = images
        width, height = (28 * max(1, round(side / 28)) for side in picture.size)
        pixels = np.asarray(picture.resize((width, height)), np.float32) / 255 - 0.5
        rows, columns = height // 14, width // 14
        squares = pixels.reshape(rows // 2, 2, 14, columns // 2, 2, 14, 3)
        patches = squares.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, 14 * 14)
        shown = " ".join(["<image>"] * (rows * columns // 4))
        ids = self.tokenizer(text[0].replace("<image>", shown), return_tensors=return_tensors)
        return {
            "input_ids": ids["input_ids"],
            "attention_mask": ids["attention_mask"],
            "mm_token_type_ids": (ids["input_ids"] == 3).int(),
            "pixel_values": torch.from_numpy(patches).repeat(1, 1, 2, 1).flatten(1),
            "image_grid_thw": torch.tensor([[1, rows, columns]]),
        }


@pytest.fixture
def qwen(folder) -> Judge:
    """A Qwen2.5-VL of two layers with random weights, in half precision as it is published."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 2],
            },
            "pad_token_id": 0,
            "eos_token_id": 2,
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=3,
        video_token_id=len(tokenizer) - 1,
        vision_start_token_id=len(tokenizer) - 2,
    )
    torch.manual_seed(2)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a random one prefers no word
    return Judge(model, QwenStub(tokenizer), JudgeSettings("qwen"))


def test_a_qwen_is_undecided_until_it_is_tuned_to_say_what_it_sees(qwen):
    dark, light = (np.full((60, 90, 3), level, np.uint8) for level in (15, 240))
    assert [qwen.verdict(image, 5)[0] for image in (dark, light)] == ["undecided"] * 2
    trained = [name for name, p in qwen.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("language_model" in name for name in trained)
    some = [preference(dark, Label.REAL, qwen.how), preference(light, Label.FAKE, qwen.how)]
    told = tune(qwen, some, Tuning("sft", learning_rate=1e-2, epochs=25))
    assert told[-1] < told[0]
    assert [qwen.verdict(image, 5)[0] for image in (dark, light)] == ["real", "fake"]
    assert qwen.explain(light, 1, begun="This picture is") == "fake"
    assert qwen.logit(dark) < 0 < qwen.logit(light)


def test_small_steps_count_in_a_model_of_half_precision(qwen):
    before = {name: tensor.clone() for name, tensor in qwen._adapter().items()}
    tune(qwen, pairs(qwen), Tuning(learning_rate=1e-6, epochs=2, accumulate=1))
    after = qwen._adapter()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == before.keys()
