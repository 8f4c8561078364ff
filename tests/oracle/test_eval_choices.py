"""Multiple choice against its peers, on 1500 generated replies. What the peers said was recorded from their own code; see `source`
in each file of data/."""

from __future__ import annotations

import hashlib

import pytest

from qwenvl.eval.scorers.choices import (
    Rule,
    by_bracket,
    by_first_letter,
    by_first_word,
    by_likelihood,
    by_lmms,
    by_mmmu,
    by_mmmu_pro,
    by_vlmevalkit,
)
from qwenvl.eval.scorers.circular import majority
from qwenvl.eval.scorers.mmmu import is_meant, meanings
from qwenvl.eval.scorers.tempcompass import RULES
from tests.oracle.eval_replies import ChoiceCase, Rotation, choice_cases, open_cases, recorded, rotation_cases, tempcompass_cases

NONE, STOPPED, SEVERAL = "-", "!", "*"


def differences(peer: str, rule: Rule) -> list[tuple[ChoiceCase, str, str]]:
    """(case, our letter, the peer's) where they differ."""
    said = recorded("eval_choices")["letters"][peer]
    cases = choice_cases()
    assert len(said) == len(cases) >= 1000
    ours = [rule(case.reply, case.options) or NONE for case in cases]
    return [one for one in zip(cases, ours, said, strict=True) if one[1] != one[2]]


@pytest.mark.parametrize(
    ("peer", "rule"),
    [("mmmu", by_mmmu), ("mmmu_pro", by_mmmu_pro), ("vlmevalkit", by_vlmevalkit), ("lmms", by_lmms), ("lvbench", by_bracket)],
)
def test_rules_read_what_their_peers_read(peer: str, rule: Rule) -> None:
    assert not differences(peer, rule)


def test_lmms_eval_reads_mmmu_as_mmmu_pro_does_but_for_its_first_step() -> None:
    """lmms-eval's rule for MMMU is looser than MMMU's own (a letter at the end of a word counts) and lacks "Answer:"."""
    assert all("Answer:" in case.reply for case, _, _ in differences("lmms_mmmu", by_mmmu_pro))


def test_mvbench_differs_where_every_option_would_be_right() -> None:
    """Its check says yes to each option, if the reply is empty, a full stop or a bracket."""
    assert {(ours, peer) for _, ours, peer in differences("mvbench", by_first_word)} == {(NONE, SEVERAL)}


def test_first_letter_differs_by_introductions_and_by_options_alone() -> None:
    """LongVideoBench looks for A to E and Video-MME for A to D, whatever the options are; each lacks some of our introductions."""
    introductions = ("Answer:", "Option:", "Best answer:", "Best option:", "The best option is")
    for peer, letters in (("longvideobench", "ABCDE"), ("videomme", "ABCD")):
        for case, ours, said in differences(peer, by_first_letter):
            introduced = any(words in case.reply for words in introductions)
            other_options = said not in case.options or (ours not in letters and ours != NONE)
            assert introduced or other_options, (case, ours, said)


def test_lmms_eval_s_older_rule_for_mmbench_differs_in_known_ways() -> None:
    """It is the rule that VLMEvalKit had first. It stops at a fifth option; takes a letter with one kind of mark beside it, even
    where others stand in the reply; knows neither bold letters nor exclamation marks; takes no letter for chosen in a sentence with
    "A" in it; reads "answer is" nowhere; and finds an option's text in replies of any length, refusals too."""
    found = differences("lmms_mmbench", by_vlmevalkit)
    stopped = [case for case, _, said in found if said == STOPPED]
    ours_alone = [case for case, _, said in found if said == NONE]
    theirs_alone = [case for case, ours, said in found if ours == NONE and said not in (NONE, STOPPED)]
    assert [len(stopped), len(ours_alone), len(theirs_alone)] == [224, 159, 119]
    assert all(len(case.options) == 5 for case in stopped)
    for case, ours, said in found:
        if NONE not in (ours, said) and said != STOPPED:
            refused = "Sorry," in case.reply or "I'm sorry" in case.reply
            shouted = "THE ANSWER IS" in case.reply
            letters_in_texts = {"C", "DNA", "vitamin A", "both A and B"} & set(case.options.values())
            assert refused or shouted or letters_in_texts, case


def test_likelihood_takes_the_first_of_the_best() -> None:
    assert by_likelihood([-2.0, -1.0, -1.0]) == "B"


def test_open_answers_are_read_as_mmmu_reads_them() -> None:
    peer, cases = recorded("eval_mmmu_open"), open_cases()
    assert len(cases) == peer["count"] >= 1000 and 0 < peer["right"].count("1") < len(cases)
    for number, (reply, accepted) in enumerate(cases):
        assert is_meant(accepted, reply) == (peer["right"][number] == "1"), (reply, accepted)
        digest = hashlib.sha1(repr(sorted(map(repr, meanings(reply)))).encode()).hexdigest()[:4]
        assert digest == peer["meanings"][4 * number : 4 * number + 4], reply


def test_rotations_count_as_in_qwen_vl_s_scripts() -> None:
    """What we count is the mean over its draws of one of several equally frequent texts."""
    peer = recorded("eval_mmbench")
    groups: dict[int, list[Rotation]] = {}
    for case in rotation_cases():
        groups.setdefault(case.index % 1_000_000, []).append(case)
    assert len(groups) == peer["questions"] and sum(map(len, groups.values())) >= 1000
    assert sum(all(case.said == case.right for case in group) for group in groups.values()) == peer["circular"]
    voted = sum(
        majority([case.options[case.said] for case in group], group[0].options[group[0].right]) for group in groups.values()
    )
    assert peer["majority"]["least"] <= voted <= peer["majority"]["most"]
    assert voted == pytest.approx(peer["majority"]["mean"], abs=4.0)


def test_tempcompass_is_rated_as_by_its_scripts() -> None:
    for task, rated in recorded("eval_tempcompass")["rated"].items():
        signs = {True: "1", False: "0", None: NONE}
        cases = tempcompass_cases(task)
        assert "".join(signs[RULES[task](reply.strip(), question, answer)] for reply, question, answer in cases) == rated
        assert set(rated) == {"0", "1", NONE}
