"""Commands whose options take their defaults from a configuration file."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bninspect.cli import config_file, help_groups
from bninspect.cli.config_file import ConfigTable, Configuration, inner, unknown, wrong
from bninspect.cli.given_once import Once
from bninspect.cli.messages import say
from bninspect.cli.param_types import epsilon, size
from bninspect.errors import UsageError
from bninspect.safe_text import printable

_WHERE = "bninspect.where"
"""Where `Context.meta` keeps the names of the tables that options came from."""
_RULES = {"tolerance": "tolerances", "ignore": "ignores"}
"""Keys that hold tables of rules, and the settings that they become."""
_CODE = "it has code run, and a configuration file may come with a stranger's models"
_WRITES = "it has files written, and a configuration file may come with a stranger's models"
_CLUSTER = "a cluster has code run, and a configuration file may come with a stranger's models"
_CALL = "it belongs to one call, not to a project"
_REFUSED = {
    **dict.fromkeys(("trust", "import"), _CODE),
    "dask": _CLUSTER,
    "allow_host": "it lets servers lead to other hosts, and a configuration file may come with a stranger's models",
    "cache": _WRITES,
    **dict.fromkeys(("output", "write_baseline", "resume"), _WRITES),
    **dict.fromkeys(("files_from", "null", "shard", "config", "isolated"), _CALL),
}


def asking() -> list[click.Option]:
    """Return --config and --isolated, which work before the name of the command and after it."""
    path = click.Path(exists=True, dir_okay=False)
    return [
        click.Option(["--config"], type=path, metavar="FILE", help="Take the configuration from this file."),
        click.Option(["--isolated"], is_flag=True, help="Look at no configuration file."),
    ]


class Configured(Once):
    """A command that looks for its configuration before it looks at the values of its options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for option in asking():
            option.expose_value = False
            option.allow_from_autoenv = False  # there is BNINSPECT_CONFIG
            self.params.append(option)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in groups of related ones."""
        help_groups.write(self.get_params(ctx), ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, with the configuration as defaults."""
        rules: dict[str, Any] = {}
        self.require_once(ctx, args)
        found = Configuration() if ctx.resilient_parsing else self._configuration(ctx, args)
        if found.path:
            _check_names(found.table, ctx)
            ctx.default_map, rules = _defaults(self, ctx, found)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            _check_environment(self, ctx)
        if _reports(self):
            ctx.params.update(rules)
            _tell_expired(rules, ctx)
        return rest

    def _configuration(self, context: click.Context, arguments: list[str]) -> Configuration:
        """Return what applies: nothing with --isolated or --help, the file of --config, else the nearest one."""
        given, _, _ = self.make_parser(context).parse_args(list(arguments))
        before = context.parent.params if context.parent else {}
        path = given.get("config") or before.get("config")
        isolated = given.get("isolated") or before.get("isolated")
        if given.get("config") and before.get("config"):
            raise click.UsageError("--config is given twice: before the command and after it", context)
        if isolated and path:
            raise click.UsageError("--config and --isolated exclude each other", context)
        asked = self.get_help_option(context)
        if isolated or (asked and given.get(str(asked.name))):
            return Configuration()
        return config_file.read(Path(path)) if path else config_file.find(Path.cwd())


def where(context: click.Context, name: str) -> str:
    """Return the file and table that the value of an option came from."""
    return str(context.meta.get(_WHERE, {}).get(name, "file"))


def _options(command: click.Command) -> dict[str, click.Option]:
    return {str(param.name): param for param in command.params if isinstance(param, click.Option)}


def _reports(command: click.Command) -> bool:
    """Return whether a command judges models: what is configured for all of them is for these."""
    return "fail_on" in _options(command)


def _check_environment(command: click.Command, context: click.Context) -> None:
    """Raise UsageError for an environment variable that looks like one of this command's options and is none."""
    prefix = f"{context.auto_envvar_prefix}_"
    options = _options(command).values()
    known = {f"{prefix}{option.name}".upper() for option in options if option.allow_from_autoenv}
    for name in os.environ:
        if name.startswith(prefix) and name not in known:
            raise unknown(name, "the environment", sorted(known), f"it takes {', '.join(sorted(known))}")


def _check_names(table: ConfigTable, context: click.Context) -> None:
    """Raise UsageError for a key that no command knows, or that may not stand in a file, wherever it stands."""
    root = context.find_root().command
    assert isinstance(root, click.Group)  # noqa: S101 - narrows the type
    commands = {name: root.get_command(context, name) for name in root.list_commands(context)}
    configured = {name: one for name, one in commands.items() if isinstance(one, Configured)}
    common: set[str] = set()
    for name, command in configured.items():
        names = {*_options(command), *(_RULES if _reports(command) else ())}
        common |= names if _reports(command) else set()
        if name in table.values:
            _check_keys(inner(table, name), names)
    others = {key: value for key, value in table.values.items() if key not in configured}
    _check_keys(ConfigTable(table.where, others), common, also=tuple(configured))


def _check_keys(table: ConfigTable, known: set[str], also: tuple[str, ...] = ()) -> None:
    spelt = [*sorted(name.replace("_", "-") for name in known if name not in _REFUSED), *also]
    seen: set[str] = set()
    for key in table.values:
        name = key.replace("-", "_")
        if name in _REFUSED:
            raise UsageError(
                f"'{printable(key)}' may not stand in {table.where}",
                why=_REFUSED[name],
                hint=f"give it on the command line: --{name.replace('_', '-')}",
            )
        if name not in known:
            raise unknown(key, table.where, spelt, f"it takes {', '.join(spelt)}")
        if name in seen:
            raise UsageError(f"'{printable(key)}' is twice in {table.where}", why="with - and with _")
        seen.add(name)


def _defaults(
    command: click.Command, context: click.Context, found: Configuration
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of a command's options, and the rules, from its own table and the common one below it."""
    assert found.path is not None  # noqa: S101 - there is a file
    options, name = _options(command), str(context.info_name)
    tables = [found.table] if _reports(command) else []
    tables += [inner(found.table, name)] if name in found.table.values else []
    defaults: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    places: dict[str, str] = context.meta.setdefault(_WHERE, {})
    today = dt.datetime.now(dt.UTC).date()
    for table in tables:
        for key, value in table.values.items():
            option = key.replace("-", "_")
            if option == "tolerance":
                rules["tolerances"] = config_file.tolerances(value, table.where)
                places["tolerances"] = table.where
            elif option == "ignore" and isinstance(value, list) and any(isinstance(one, dict) for one in value):
                rules["ignores"] = config_file.ignores(value, table.where, today)
                places["ignores"] = table.where
            elif option in options:
                defaults[option] = _value(options[option], key, value, table.where, context, found.path.parent)
                places[option] = table.where
    return defaults, rules


def _value(option: click.Option, key: str, value: Any, place: str, context: click.Context, folder: Path) -> Any:
    """Return the value of an option as it takes it. Raises UsageError, naming file and key, if it takes others."""
    kinds, words = _wanted(option)
    values = value if isinstance(value, list) and option.multiple else [value]
    for named in values:
        if not isinstance(named, kinds) or (isinstance(named, bool) and bool not in kinds):
            raise wrong(key, place, value, f"{words}, or a list of them" if option.multiple else words)
    if isinstance(option.type, click.Path):
        values = [str(folder / one) for one in values]
    try:
        return option.type_cast_value(context, values if option.multiple else values[0])
    except click.BadParameter as error:
        raise UsageError(f"'{printable(key)}' in {place} is not accepted", why=error.message) from None


def _wanted(option: click.Option) -> tuple[tuple[type, ...], str]:
    if option.is_flag:
        return (bool,), "true or false"
    if option.count or isinstance(option.type, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    if getattr(option.type, "func", None) is epsilon:
        return (str, int, float), "a number, or a text '[LAYER_GLOB=]VALUE'"
    if getattr(option.type, "func", None) is size:
        return (str, int), "a text such as '2GB', or a number of bytes"
    return (str,), "a text"


def _tell_expired(rules: Mapping[str, Any], context: click.Context) -> None:
    for rule in rules.get("ignores", ()):
        if rule.expired:  # under --quiet too: it may be why the gate is closed
            about = f"{printable(rule.rule)} in {printable(rule.layers)}"
            say(f"note: the ignore of {about} ended on {rule.until}: it counts again ({where(context, 'ignores')})")
