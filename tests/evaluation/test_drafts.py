from evo_merge.evaluation.drafts import Follower


def decode(answer, drafts, most=16):
    """How many steps a greedy decoding of ``answer`` takes that checks what is proposed."""
    follower, n_taken, n_steps = Follower(drafts), 0, 0
    while n_taken < len(answer):
        proposal = follower.propose(min(most, len(answer) - n_taken - 1))
        rest = answer[n_taken:]
        n_held = next((i for i, token in enumerate(proposal) if token != rest[i]), len(proposal))
        follower.take(rest[: n_held + 1], len(proposal))
        n_taken, n_steps = n_taken + n_held + 1, n_steps + 1
    return n_steps


def test_without_drafts_nothing_is_proposed():
    assert Follower([]).propose(8) == []
    assert Follower([[]]).propose(8) == []
    assert decode(list(range(10)), []) == 10


def test_the_right_draft_saves_most_steps():
    answer = list(range(100, 160))

    assert decode(answer, [answer]) < 8


def test_an_answer_with_another_token_inside_goes_on_along_the_draft():
    answer = list(range(100, 160))
    other = [*answer[:20], 7, *answer[21:]]

    assert decode(answer, [other]) < 16


def test_an_answer_that_lacks_a_part_of_the_draft_joins_it_again():
    answer = list(range(100, 160))
    longer = [*answer[:20], *range(500, 520), *answer[20:]]

    assert decode(answer, [longer]) < 20


def test_where_the_first_draft_says_nothing_the_second_does():
    answer = list(range(100, 160))

    assert decode(answer, [list(range(40)), answer]) < 14


def test_drafts_of_something_else_cost_no_step():
    answer = list(range(100, 160))

    assert decode(answer, [list(range(500, 560))]) == len(answer)


def test_no_more_is_proposed_than_asked_for():
    follower = Follower([range(50)])

    assert follower.propose(3) == [0, 1, 2]
    assert follower.propose(0) == []
