"""What a model's checkpoints.py says of a checkpoint that it recognises."""

from typing import Any, Dict, NamedTuple, Sequence


class Description(NamedTuple):
    """str() is the phrase for a message: "a WRN-16-1 with 10 classes; use --depth 16 ..."."""

    summary: str  # a noun phrase, e.g. 'an Xception with 37 classes'
    flags: Dict[str, Any]  # the configuration that builds its network: {flag: value}
    missing: Sequence[str] = ()  # scopes that it lacks and a warm start initialises anew
    unused: Sequence[str] = ()  # its variables that had no effect where it comes from

    def __str__(self) -> str:
        return '%s; use %s' % (
            self.summary,
            ' '.join(
                '--%s %s' % (name, '%g' % value if isinstance(value, float) else value)
                for name, value in self.flags.items()
            ),
        )
