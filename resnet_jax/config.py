"""From the command line to a validated config. Executes the config file; nothing later in a run's life does."""

import ast
import difflib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resnet_jax import spec, validity
from resnet_jax.errors import UserError
from resnet_jax.models import zoo

CHECKOUT = Path(__file__).parents[1]


def from_arguments(arguments: Sequence[str], resolve: Callable[[ConfigDict], None] | None = None) -> ConfigDict | None:
    """The locked, validated config of `--config FILE[:ARGUMENT]` and `--config.KEY=VALUE …`; None without --config.

    Args:
      resolve: fills in what the settings leave to the data.

    Raises:
      UserError: an unknown file, key (with the nearest one) or flag, or a value that does not fit.
    """
    file, overrides = _split(arguments)
    if file is None:
        if overrides:
            raise UserError(f'--config.{next(iter(overrides))} overrides a config file: give one with --config FILE')
        return None
    config = load(file)
    check_settings(file, config)
    config = overridden(config, overrides)
    with config.unlocked():
        if resolve:
            validity.check_values(config)
            resolve(config)
    validity.check(config)
    return config


def overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Key -> text of `--config.KEY=VALUE …`, for a config that comes from elsewhere than a file.

    Raises:
      UserError: a file is given, or an unknown flag.
    """
    file, found = _split(arguments)
    if file is not None:
        raise UserError(
            f'--config {file}: experiments and sweeps have their own config; override it with --config.KEY=VALUE'
        )
    return found


def overridden(config: ConfigDict, overrides: Mapping[str, str]) -> ConfigDict:
    """The config with these settings (key -> text) instead of its own, locked.

    Raises:
      UserError: an unknown key (with the nearest one), or a value that does not fit.
    """
    for key, text in overrides.items():
        _override(config, key, text)
    return config.lock()


def changed(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with these settings (key -> value), locked.

    Raises:
      UserError: an unknown key (with the nearest one), or a value of another kind.
    """
    config, flat = ConfigDict(config.to_dict()), spec.flatten(config)
    for key, value in settings.items():
        if key not in flat:
            raise _unknown(key, flat)
        owner, name = _owner(config, key)
        if not _same_kind(value, owner[name]):
            raise UserError(f'config.{key} is a {type(owner[name]).__name__}, as {owner[name]!r} is; got {value!r}')
        owner[name] = value
    return config.lock()


def load(file: str) -> ConfigDict:
    """The config that FILE[:ARGUMENT] makes; FILE is looked up from here, then in the checkout."""
    name, _, argument = file.partition(':')
    path = next((path for path in (Path(name), CHECKOUT / name) if path.is_file()), None)
    if path is None:
        there = ', '.join(f'configs/{each.name}' for each in sorted((CHECKOUT / 'configs').glob('[!_]*.py')))
        raise UserError(f'there is no config file {name}; there are {there}')
    return call(path, 'get_config', argument)


def call(path: Path, function: str, argument: str) -> Any:
    """What a file's function gives, of the argument where there is one.

    Raises:
      UserError: it is not a Python file, has no such function, or that takes no argument.
    """
    found = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    if found is None or found.loader is None:
        raise UserError(f'{path} is not a Python file; it is to be one, with a function {function}()')
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    made = getattr(module, function, None)
    if made is None:
        raise UserError(f'{path} has no function {function}(); what stands in configs/ shows what it returns')
    if argument and not inspect.signature(made).parameters:
        raise UserError(f'{path} takes no argument, got {argument!r}; leave out what follows the colon')
    return made(argument) if argument else made()


def _split(arguments: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The config file and the overrides, from `--flag value` and `--flag=value` alike."""
    file, overrides, words = None, {}, list(arguments)
    while words:
        flag, equals, value = words.pop(0).partition('=')
        if flag != '--config' and not flag.startswith('--config.'):
            raise UserError(f'unknown argument {flag}; a setting is given as --config.KEY=VALUE')
        if not equals:
            if not words:
                raise UserError(f'{flag} needs a value: {flag}=VALUE')
            value = words.pop(0)
        if flag == '--config':
            file = value
        else:
            overrides[flag.removeprefix('--config.')] = value
    return file, overrides


def check_settings(file: str, config: ConfigDict) -> None:
    """Holds what a file made against `configs/default.py`: the same keys, values of the same kinds.

    Raises:
      UserError: the first key that differs.
    """
    settings, known = spec.flatten(config), spec.flatten(load('configs/default.py'))
    for key, value in settings.items():
        if key not in known:
            raise _unknown(key, known)
        if not _same_kind(value, known[key]):
            raise UserError(
                f'config.{key} is a {type(known[key]).__name__}, as {known[key]!r} is; {file} has {value!r}'
            )
    if missing := sorted(known.keys() - settings.keys()):
        raise UserError(f'{file} lacks config.{missing[0]}; start from configs/default.py, which has every setting')


def title(network: Mapping) -> str:
    """A name for a kind of network: the nearest one of the zoo, and the settings in which it differs from that.

    No two kinds share one: `resnet20`, `preact_resnet110-shortcut-none`.
    """
    base = spec.flatten(load('configs/default.py').network)
    ours = spec.flatten(network)

    def differences(name: str) -> dict:
        theirs = spec.flatten({**base, **zoo.settings(name)})
        return {key: value for key, value in ours.items() if value != theirs[key]}

    name = min(zoo.like(ours['stage_blocks']), key=lambda name: len(differences(name)))
    shown = {key: '_'.join(map(str, value)) if isinstance(value, list) else value
             for key, value in differences(name).items()}  # fmt: skip
    return '-'.join([name, *(f'{key}-{value}' for key, value in shown.items())])


def _unknown(key: str, known: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return UserError(f'no setting is called config.{key}' + (f'; the nearest is config.{near[0]}' if near else ''))


def _override(config: ConfigDict, key: str, text: str) -> None:
    flat = spec.flatten(config)
    if key not in flat:
        raise _unknown(key, flat)
    owner, name = _owner(config, key)
    owner[name] = _parse(key, text, owner[name])


def _owner(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Where a setting stands: the section of the config, and the name there."""
    section, _, name = key.rpartition('.')
    for part in section.split('.') if section else ():
        config = config[part]
    return config, name


def _same_kind(value: object, known: object) -> bool:
    return type(value) is type(known) or (type(value) is int and type(known) is float)


def _parse(key: str, text: str, present: object) -> object:
    """The text as a value of the kind that stands there."""
    if isinstance(present, str):
        return text
    try:
        if isinstance(present, float):
            return float(text)
        value = ast.literal_eval(text.capitalize() if text in ('true', 'false') else text)
    except (ValueError, SyntaxError, TypeError):
        value = None
    if isinstance(present, tuple):
        value = _tuple(text if value is None else value, present)
    if type(value) is not type(present):
        raise UserError(f'config.{key} is a {type(present).__name__}, as {present!r} is; got {text!r}')
    return value


def _tuple(value: object, present: tuple) -> object:
    """A tuple of what stands for one: a list, one value alone, words with commas between."""
    if isinstance(value, str) and re.fullmatch(r'\w+(,\w+)*', value):
        value = value.split(',')
    if isinstance(value, int | float):
        value = (value,)
    if not isinstance(value, tuple | list):
        return value
    fractions = any(type(each) is float for each in present)
    return tuple(float(each) if fractions and type(each) is int else each for each in value)
