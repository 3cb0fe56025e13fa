"""Drives that cannot be read and nodes that can read none, on a cluster that is played."""

import pytest

pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')

from offroad_seg_core.fleet import cluster

FULL = OSError(28, 'No space left on device')
ALL = list(range(8))


@pytest.fixture
def full(played):
    """The fate of a worker of which each chunk fails within moments."""
    return played.Fails(FULL)


@pytest.mark.parametrize('drives', ['a', 'ab', 'abcdefgh'])
@pytest.mark.parametrize('num_full', [1, 2, 3])
@pytest.mark.parametrize('full_first', [True, False])
def test_workers_of_a_full_node_cost_no_drive_an_attempt(
    played, perform, full, caplog, drives, num_full, full_first
):
    few, others = [full] * num_full, [played.WORKS] * (4 - num_full)
    fates = few + others if full_first else others + few
    done, ray = perform(*fates, num_cores=8, drives=drives)
    assert (done, ray.attempts) == (ALL, {})
    assert 'goes to another worker after [Errno 28] No space left on device' in caplog.text


@pytest.mark.parametrize('drives', ['a', 'abcdefgh'])
def test_a_full_node_that_is_there_first_costs_no_drive_an_attempt(
    played, perform, full, monkeypatch, drives
):
    slow = played.PlayedWorker.__init__

    def opening_later(worker, ray, fate):
        slow(worker, ray, fate)
        worker.opening.lasts_ms *= 1 if fate is full else 100

    monkeypatch.setattr(played.PlayedWorker, '__init__', opening_later)
    done, ray = perform(full, full, played.WORKS, num_cores=6, drives=drives)
    assert (done, ray.attempts) == (ALL, {})


@pytest.mark.parametrize('num_cores', [2, 4, 8])
@pytest.mark.parametrize('bad', ['a', 'b', 'd', 'ab', 'cd'])
def test_a_drive_that_nobody_can_read_is_given_up_alone(played, perform, num_cores, bad):
    done, ray = perform(played.Fails(FULL, drives=bad), num_cores=num_cores, drives='abcd')
    assert done == [at for at in ALL if 'aabbccdd'[at] not in bad]
    assert all(3 <= ray.attempts[drive] <= 6 for drive in bad)
    assert set(ray.attempts) == set(bad)


@pytest.mark.parametrize('num_cores', [2, 8])
def test_a_drive_alone_that_nobody_can_read_is_given_up(perform, full, num_cores):
    done, ray = perform(full, num_cores=num_cores)
    assert done == []
    assert ray.attempts['a'] >= 3


@pytest.mark.parametrize('num_cores', [2, 8])
@pytest.mark.parametrize('before', [0, 1])
def test_where_every_node_is_full_no_drive_is_given_up(played, perform, num_cores, before):
    """Also where they became it after a while."""
    fate = played.Fails(FULL, num_works=before)
    with pytest.raises(cluster.ClusterError, match=r'No space left on device.*TMPDIR.*repeat'):
        perform(fate, num_cores=num_cores, drives='abcdefgh')
    assert cluster.ray.attempts == {}


@pytest.mark.parametrize('drives', ['a', 'abcdefgh'])
@pytest.mark.parametrize('num_cores', [2, 8])
def test_a_share_that_hiccups_costs_nothing(played, perform, num_cores, drives):
    done, _ = perform(
        played.Fails(OSError('the share hiccups'), 1), num_cores=num_cores, drives=drives
    )
    assert done == ALL
