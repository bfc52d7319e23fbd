from pathlib import Path

import numpy as np
import pytest

from gammascope.data.policies.actgen import Opinion, chosen, either_way, guided_share
from gammascope.sample import Entry, Label


def opinion(name, photo, edit):
    return Opinion(Entry(Path(name), Label.REAL), photo, edit)


RIGHT = [opinion(f"right{n}", -2.0 - n, 2.0 + n) for n in range(20)]
WRONG = [
    opinion("alarm", 0.1, 9.0),
    opinion("missed", -9.0, -0.1),
    opinion("undecided", -9.0, 0.0),
    opinion("both", 5.0, -5.0),
]


def names(opinions, budget, choice, seed=0):
    photos = chosen(opinions, budget, choice, np.random.default_rng(seed))
    return [photo.path.name for photo in photos]


def test_a_detector_is_wrong_where_it_calls_a_photo_fake_or_an_edit_real():
    assert all(each.wrong for each in WRONG)
    assert not any(each.wrong for each in RIGHT)


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_errors_come_first_and_then_what_is_next_to_them(seed):
    found = names(RIGHT + WRONG, 7, "errors", seed)
    assert found[0] == "both"
    assert set(found[1:3]) == {"alarm", "missed"}
    assert found[3:] == ["undecided", "right0", "right1", "right2"]


def test_of_guides_that_are_all_wrong_the_errors_are_not_a_random_choice():
    everywhere = [opinion(f"{n}", -1.0, -0.1 * n - 0.1) for n in range(60)]
    worst = names(everywhere, 30, "errors")
    assert set(worst) == {f"{n}" for n in range(30, 60)}
    assert set(names(everywhere, 30, "random")) != set(worst)


def test_photos_of_both_choices_are_counted():
    everything = RIGHT + WRONG
    for seed in range(3):
        both = set(names(everything, 6, "errors", seed)) & set(names(everything, 6, "random", seed))
        assert either_way(everything, 6, (seed,)) == len(both) < 6
    assert either_way(everything, len(everything), (0,)) == len(everything)


def test_a_choice_follows_its_state_and_names_no_photo_twice():
    equals = {tuple(names(RIGHT + WRONG, 3, "errors", seed)) for seed in range(12)}
    assert len(equals) == 2
    assert names(RIGHT + WRONG, 9, "random", 3) == names(RIGHT + WRONG, 9, "random", 3)
    everything = names(RIGHT + WRONG, 100, "random")
    assert len(everything) == len(set(everything)) == 24


def test_a_random_choice_does_not_ask_the_detector():
    turned = [opinion(each.host.path.name, -each.photo, -each.edit) for each in RIGHT + WRONG]
    assert names(turned, 6, "random") == names(RIGHT + WRONG, 6, "random")


def test_the_share_against_the_detector_grows_from_none_to_a_half():
    assert [guided_share(number, 5) for number in range(5)] == [0, 0.125, 0.25, 0.375, 0.5]
    assert guided_share(0, 1) == 0
