"""Markdown: tables and their cells."""

from typing import Any, Dict, Sequence

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


def side_by_side(heading: str, columns: Dict[str, Dict[str, Any]]) -> str:
    """A section with a table of texts {column: {row: value}}, '' where a column has no such row."""
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [[label, *(column.get(label, '') for column in columns.values())] for label in labels]
    return table(heading, ['', *columns], rows, left=1 + len(columns))


def cell(text: Any) -> str:
    """One line that ends no cell and is not HTML."""
    text = ' '.join(str(text).split())
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('|', '\\|')
