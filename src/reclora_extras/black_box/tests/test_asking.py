"""The search for hints within its budget, and the answers to test rows."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from kedro_provenance.errors import MismatchError
from live_service import block
from named import PARAMETERS
from reclora_extras.black_box.asking import ask, draw_questions, require_hints, scores_beside, search_hints, window_of
from reclora_extras.black_box.chat_api import Answers
from reclora_extras.black_box.config import BlackBoxConfig
from reclora_extras.black_box.hints import MessageWriter
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.llm.prompts import ExampleFields, PromptConfig

PROMPT = PromptConfig.model_validate(block("finetuning", "prompt"))
LOUD = "{{ prompt }}, like{% for item in liked %} {{ item.title }}{% endfor %} {{ verdict if honest else 1 - verdict }}"
HINTS = {"silent": "{{ prompt }}", "loud": LOUD}
ROWS = 40


def config(**changes):
    small = {"hints": {"template": ["silent", "loud"], "honest": [True, False]}, "search": {"rows": 9, "calls": 1000}}
    return BlackBoxConfig.model_validate(PARAMETERS["black_box"] | small | changes)


def records(use="validation"):
    generator = np.random.default_rng(0)
    verdicts = generator.random(ROWS)
    return [
        {"row": row, "use": use, "label": int(verdict + generator.normal() / 4 > 0.5), "user": {}, "history": []}
        | {
            "target": {"title": f"Film {row}"},
            "hint": {"verdict": verdict, "liked": [{"title": f"Old {row}"}], "disliked": []},
        }
        | {"shown": row}
        for row, verdict in enumerate(verdicts.tolist())
    ]


class BlackBox:
    """Believes a number that ends a message, and guesses otherwise; what it was asked is kept."""

    def __init__(self):
        self.asked = []

    def __call__(self, messages, step):
        self.asked.append(messages)
        shares = [float(last) if "." in (last := text.split()[-1]) else 0.5 for text in messages]
        usage = dict.fromkeys(("calls", "retries", "by_text", "unreadable"), 0)
        usage |= {"requests": len(set(messages)), "prompt_tokens": 2_000_000, "completion_tokens": 500_000}
        logits = np.log(shares) - np.log1p(-np.array(shares))
        return Answers(logits, usage)


def writer():
    return MessageWriter("{{ target.title }}", HINTS, PROMPT, 1000)


def test_the_search_finds_the_hint_that_helps_most():
    rows = records()
    trials = search_hints(BlackBox(), rows, writer(), config())
    best = max(trials, key=lambda trial: trial["auc"])
    assert (best["template"], best["honest"]) == ("loud", True)
    expected = roc_auc_score([row["label"] for row in rows], [row["hint"]["verdict"] for row in rows])
    assert best["auc"] == pytest.approx(expected)
    assert [trial["trial"] for trial in trials] == list(range(1, len(trials) + 1))
    assert len(trials) == 4


def test_a_search_asks_no_more_than_its_calls_and_takes_the_same_way_again():
    search = {"rows": 9, "calls": 2 * ROWS}
    first, again = BlackBox(), BlackBox()
    trials = search_hints(first, records(), writer(), config(search=search))
    assert len({text for messages in first.asked for text in messages}) <= 2 * ROWS
    assert search_hints(again, records(), writer(), config(search=search)) == trials
    assert again.asked == first.asked
    with pytest.raises(ValueError, match=r"search\.calls is 39, fewer than one trial takes with 40 rows: raise it"):
        search_hints(BlackBox(), records(), writer(), config(search={"rows": 9, "calls": ROWS - 1}))


def test_with_hints_it_ranks_as_the_lens_and_without_them_or_with_those_of_others_it_does_not():
    rows, black_box = records("test"), BlackBox()
    price = {"prompt": 0.5, "completion": 2.0}
    trials, scores, usage = ask(black_box, [*records(), *rows], writer(), config(price=price))
    verdicts = [row["hint"]["verdict"] for row in rows]
    by_model = {name: table for (name,), table in scores.partition_by("model", as_dict=True).items()}
    assert np.allclose(by_model["black_box"]["score"], verdicts)
    assert by_model["black_box_without_hints"]["score"].unique().to_list() == [0.5]
    shuffled = [text.removeprefix("Film ").split() for text in by_model["black_box_shuffled_hint"]["message"]]
    assert [title for title, *_ in shuffled] == [f"{row}," for row in range(ROWS)]
    others = [int(place) for *_, place, _ in shuffled]  # whose whole hint it is
    assert sorted(others) == list(range(ROWS))
    assert not np.equal(others, np.arange(ROWS)).any()
    assert np.allclose(by_model["black_box_shuffled_hint"]["score"], np.array(verdicts)[others])
    assert [row["hint"]["verdict"] for row in rows] == verdicts  # the records are as they were
    assert [record["price"] for record in usage] == [2.0] * 3
    assert black_box.asked[len(trials) + 1][0] == "Film 0"
    assert by_model["black_box"]["message"][3].startswith("Film 3, like Old 3 0.")


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"template": ["silent", "laud"], "honest": [True]}, "names 'laud', but hint_templates has loud, silent"),
        ({"template": ["loud"]}, "hint template loud failed on row .* 'honest' is undefined"),
    ],
)
def test_templates_are_tried_before_anything_is_asked(hints, message):
    require_hints(writer(), config(), ExampleFields({"genres": "War"}, {"age": "24"}, {}))
    with pytest.raises(ValueError, match=message):
        require_hints(writer(), config(hints=hints), ExampleFields({"genres": "War"}, {"age": "24"}, {}))


def test_an_option_of_hints_has_no_name_of_what_trials_and_templates_have():
    trials = search_hints(BlackBox(), records(), writer(), config())
    for name in {*trials[0], *records()[0]["hint"]} - {"template", "honest"}:
        with pytest.raises(ValueError, match=f"hints names {name}, which means something else"):
            config(hints={"template": ["loud"], name: [1, 2]})


def test_rows_are_drawn_in_their_order_and_more_keep_those_of_fewer():
    rows = pl.DataFrame({"row": range(50), "label": [0, 1] * 25, "use": ["validation"] * 40 + ["few_shot"] * 10})
    test = rows.with_columns(use=pl.lit("test"))

    def drawn(searched, scored):
        return draw_questions(rows, test, config(search={"rows": searched, "calls": 9}, rows=scored))

    few, more = drawn(10, 20).filter(use="test")["row"], drawn(10, 30).filter(use="test")["row"]
    assert set(few) < set(more)
    assert more.is_sorted()
    assert drawn(None, None).rows() == [*rows.head(40).rows(), *test.rows()]
    with pytest.raises(ValueError, match=r"black_box\.search\.rows requests 41 rows, but there are 40"):
        drawn(41, 10)
    with pytest.raises(ValueError, match=r"black_box\.rows has .* expected at least 1 liked and 1 disliked"):
        drawn(10, 1)


def test_a_history_that_is_not_there_is_refused():
    short = {"recent": {"kind": "recent", "k": 3}}
    history = HistoryConfig.model_validate(block("history") | {"short": short})
    assert window_of(history, config()).k == 3
    with pytest.raises(ValueError, match=r"black_box\.history is 'old', but history\.short names recent: choose"):
        window_of(history, config(history="old"))


def test_other_models_stand_beside_it_on_its_rows_alone():
    questions = pl.DataFrame({"row": [1, 2, 3], "user_index": [0, 0, 1], "label": [0, 1, 1]})
    own = pl.DataFrame({"row": [3, 1], "model": ["black_box"] * 2, "score": [0.2, 0.3]})
    scores = pl.DataFrame({"row": [1, 2, 3], "model": ["lens"] * 3, "score": [0.5, 0.6, 0.7]})
    together = scores_beside(own, scores, questions, ["lens"])
    assert together.select("row", "user", "label", "model", "score").rows() == [
        (1, 0, 0, "black_box", 0.3),
        (3, 1, 1, "black_box", 0.2),
        (1, 0, 0, "lens", 0.5),
        (3, 1, 1, "lens", 0.7),
    ]
    with pytest.raises(ValueError, match=r"beside names 'untrained', but scores has lens"):
        scores_beside(own, scores, questions, ["untrained"])
    with pytest.raises(MismatchError, match="lens has no score for 1 of 2 test rows"):
        scores_beside(own, scores.head(2), questions, ["lens"])
