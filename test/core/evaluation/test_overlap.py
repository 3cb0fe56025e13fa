"""Order, errors and ends of the stages that run at once."""

from concurrent.futures import ThreadPoolExecutor
import threading

import pytest

from offroad_seg_core.evaluation.overlap import ahead, background


def test_both_keep_the_order():
    with ThreadPoolExecutor(3) as pool:
        squares = ahead(pool, lambda n: n * n, background(range(50)))
        assert list(background(squares)) == [n * n for n in range(50)]


def test_taking_runs_ahead_but_not_far():
    taken, reached = [], threading.Semaphore(0)

    def items():
        for n in range(100):
            taken.append(n)
            reached.release()
            yield n

    iterator = background(items(), depth=3)
    assert next(iterator) == 0
    for _ in range(5):  # the first, three that wait, and one in the thread's hand
        assert reached.acquire(timeout=30)
    assert not reached.acquire(timeout=0.2)
    assert len(taken) == 5
    iterator.close()


def test_calls_overlap():
    together = threading.Barrier(3)

    def call(n):
        together.wait(30)  # breaks unless three calls run at once
        return n

    with ThreadPoolExecutor(3) as pool:
        assert list(ahead(pool, call, range(6), depth=3)) == list(range(6))


def test_errors_come_in_their_turn():
    def items():
        yield 1
        raise KeyError('source')

    iterator = background(items())
    assert next(iterator) == 1
    with pytest.raises(KeyError, match='source'):
        next(iterator)
    with ThreadPoolExecutor(2) as pool:
        quotients = ahead(pool, lambda n: 6 // n, [3, 2, 0])
        assert [next(quotients), next(quotients)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            next(quotients)


def test_closing_the_last_stage_ends_all_threads():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append('source')

    before = set(threading.enumerate())
    with ThreadPoolExecutor(2) as pool:
        stages = ahead(pool, str, background(background(items())))
        assert next(stages) == '0'
        stages.close()
    assert closed == ['source']
    assert set(threading.enumerate()) <= before
