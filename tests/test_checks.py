import pytest

from rgbt_fusion import checks


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.check_positive_int(0, name="n"), ValueError, "n must be at least 1, got 0"),
        (
            lambda: checks.check_positive_int(True, name="n"),
            TypeError,
            "n must be a whole number, got True",
        ),
        (
            lambda: checks.check_positive_int("3", name="n"),
            TypeError,
            "n must be a whole number, got '3'",
        ),
        (
            lambda: checks.check_finite_number("a", name="t"),
            TypeError,
            "t must be a number, got 'a'",
        ),
        (
            lambda: checks.check_finite_number(float("nan"), name="t"),
            ValueError,
            "t must be finite, got nan",
        ),
        (
            lambda: checks.check_finite_number(2, name="t", low=0, high=1),
            ValueError,
            "t must be a finite number in [0, 1], got 2",
        ),
        (
            lambda: checks.check_choice("x", ("a", None), name="mode"),
            ValueError,
            "mode must be one of 'a', None, got 'x'",
        ),
        (
            lambda: checks.check_divisible(7, 2, name="D", divisor_name="G"),
            ValueError,
            "D must be divisible by G = 2, got 7",
        ),
    ],
)
def test_each_check_names_argument_rule_and_value(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_what_is_right_passes():
    assert checks.check_choice(None, ("a", None), name="a") is None
    assert checks.check_choice("a", ("a", None), name="a") == "a"
    checks.check_divisible(8, 2, name="a", divisor_name="b")
    assert checks.check_positive_int(3, name="a") == 3
    assert checks.check_finite_number(1, name="a", low=0) == 1.0
