"""Markdown: tables and their cells."""

from typing import Any, Sequence

import tabulate


def table(heading: str, header: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """A section with a table; '' without rows. The first `left` columns are text, the others are
    aligned to the right.
    """
    if not rows:
        return ''
    body = [[cell(item) for item in row] for row in rows]
    text = tabulate.tabulate(
        body,
        [cell(item) for item in header],
        tablefmt='pipe',
        disable_numparse=True,
        colalign=['left'] * left + ['right'] * (len(header) - left),
    )
    return '## %s\n\n%s' % (heading, text) if heading else text


def cell(text: Any) -> str:
    """One line that ends no cell and is not HTML."""
    text = ' '.join(str(text).split())
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('|', '\\|')
