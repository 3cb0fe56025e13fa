from dataclasses import FrozenInstanceError

from hypothesis import given, strategies
from pydantic.dataclasses import dataclass
import pytest

from offroad_seg_core.config import STRICT, ConfigError, dump_config, load_config, read_yaml


@dataclass(frozen=True, config=STRICT)
class Optimizer:
    learning_rate: float = 1e-3
    max_steps: int = 10

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f'learning_rate is {self.learning_rate}, expected a positive number')


@dataclass(frozen=True, config=STRICT)
class Term:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, config=STRICT)
class Experiment:
    name: str
    size: tuple[int, int] = (64, 128)
    optimizer: Optimizer = Optimizer()
    terms: tuple[Term, ...] = ()
    fallback: Term | None = None


def test_reads_yaml_with_nested_sections(tmp_path):
    path = tmp_path / 'a.yaml'
    path.write_text('name: x\nsize: [32, 64]\nterms: [{name: dice, weight: 0.5}]\n')
    config = load_config(Experiment, path)
    assert config == Experiment('x', (32, 64), terms=(Term('dice', 0.5),))
    with pytest.raises(FrozenInstanceError):
        config.name = 'y'


def test_overrides_apply_in_order_and_do_not_touch_the_source():
    source = {'name': 'x', 'optimizer': {'max_steps': 3}}
    overrides = ['optimizer.max_steps=4', 'optimizer.learning_rate=1e-2', 'size=[2, 4]']
    config = load_config(Experiment, source, overrides)
    assert (config.optimizer.max_steps, config.optimizer.learning_rate) == (4, 0.01)
    assert config.size == (2, 4)
    assert source['optimizer'] == {'max_steps': 3}


def test_reports_every_mistake_at_once_with_file_and_key(tmp_path):
    path = tmp_path / 'bad.yaml'
    path.write_text(
        'nam: x\noptimizer: {learnig_rate: 1, max_steps: many}\nterms: [{name: a, zzz: 1}]\n'
        'fallback: 3\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(Experiment, path)
    text = str(caught.value)
    assert all(line.startswith(str(path)) for line in text.splitlines())
    assert "nam: unknown key; did you mean 'name'?" in text
    assert 'name: missing, and it has no default' in text
    assert "optimizer.learnig_rate: unknown key; did you mean 'learning_rate'?" in text
    assert "optimizer.max_steps: got 'many'; input should be a valid integer" in text
    assert 'terms.0.zzz: unknown key; known keys: name, weight' in text
    assert 'fallback: got 3, expected a section with keys' in text


def test_the_owner_s_own_check_speaks():
    with pytest.raises(
        ConfigError, match=r'optimizer: learning_rate is -1.0, expected a positive'
    ):
        load_config(Experiment, {'name': 'x'}, ['optimizer.learning_rate=-1'])


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('- 1', 'holds list, expected a mapping'),
        ('', 'holds nothing'),
        ('a: [', 'not valid YAML'),
        ('a: 1\nb: 2\na: 3', "key 'a' is given twice"),
    ],
)
def test_bad_files(tmp_path, text, match):
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_yaml(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read: No such file'):
        load_config(Experiment, tmp_path / 'none.yaml')


@pytest.mark.parametrize('override', ['name', '=3', 'a=[', 'name.first=x'])
def test_bad_overrides(override):
    with pytest.raises(ConfigError, match='override'):
        load_config(Experiment, {'name': 'x'}, [override])


@given(
    strategies.text(max_size=20),
    strategies.tuples(strategies.integers(1, 9), strategies.integers(1, 9)),
    strategies.floats(1e-9, 1e9),
    strategies.lists(strategies.floats(allow_nan=False), max_size=3),
)
def test_round_trip(name, size, rate, weights):
    terms = tuple(Term(f't{index}', weight) for index, weight in enumerate(weights))
    config = Experiment(name, size, Optimizer(rate), terms, Term('last') if terms else None)
    assert load_config(Experiment, dump_config(config)) == config
