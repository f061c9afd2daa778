"""Commands that refuse an option that is given twice and is not repeatable: the last one would win in silence."""

from __future__ import annotations

from collections import Counter

import click


class Once(click.Command):
    """A command whose options stand once on its command line, unless they are repeatable or flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, as click does, once no option on it contradicts itself."""
        self.require_once(ctx, args)
        return super().parse_args(ctx, args)

    def require_once(self, context: click.Context, arguments: list[str]) -> None:
        """Raise UsageError for an option that stands there twice and takes one value."""
        if context.resilient_parsing:
            return
        _, _, given = self.make_parser(context).parse_args(list(arguments))
        for option, times in Counter(given).items():
            if times > 1 and isinstance(option, click.Option) and takes_one_value(option):
                raise click.UsageError(f"{max(option.opts, key=len)} is given twice", context)


def takes_one_value(option: click.Option) -> bool:
    """Return whether an option is neither repeatable nor a flag, which says the same however often it stands there."""
    return not (option.multiple or option.count or option.is_flag)


class OnceGroup(Once, click.Group):
    """A group of which the same holds."""
