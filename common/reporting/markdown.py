"""Markdown tables, and one self-contained HTML page from Markdown: pictures inside, tables that
sort.
"""

import base64
import html
import pathlib
import re
from typing import Any, Dict, Sequence

import markdown
import tabulate

from common.files import write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #333; max-width: 60em; margin: 2em auto; }
h1, h2 { line-height: 1.2; margin-top: 1.6em; } img { max-width: 100%; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .25em .8em; border-bottom: 1px solid #e8e8e8; text-align: left; }
figure { display: inline-block; margin: 0 1em 1em 0; vertical-align: top; }
figcaption { font-size: 13px; }
th:not(:empty) { cursor: pointer; background: #f4f4f4; }
"""
# A click on a heading sorts by that column, numbers by value; a second click reverses.
SCRIPT = """
document.querySelectorAll('th').forEach(head => head.onclick = () => {
  const body = head.closest('table').tBodies[0];
  const down = head.dataset.down = -(head.dataset.down || -1);
  const value = row => row.cells[head.cellIndex].textContent;
  const order = (a, b) => {
    const difference = parseFloat(a.replace(/,/g, '')) - parseFloat(b.replace(/,/g, ''));
    return isNaN(difference) ? a.localeCompare(b) : difference;
  };
  [...body.rows].sort((a, b) => down * order(value(a), value(b))).forEach(row => body.append(row));
});
"""


def table(
    heading: str, header: Sequence[str], rows: Sequence[Sequence[Any]], text_columns: int = 1
) -> str:
    """A section with a table; '' without rows. The first `text_columns` hold text, the others are
    aligned to the right.
    """
    if not rows:
        return ''
    text = tabulate.tabulate(
        [[cell(item) for item in row] for row in rows],
        [cell(item) for item in header],
        tablefmt='pipe',
        disable_numparse=True,
        colalign=['left'] * text_columns + ['right'] * (len(header) - text_columns),
    )
    return '## %s\n\n%s' % (heading, text) if heading else text


def side_by_side(heading: str, columns: Dict[str, Dict[str, Any]]) -> str:
    """A section with a table of texts {column: {row: value}}, '' where a column has no such row."""
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [[label, *(column.get(label, '') for column in columns.values())] for label in labels]
    return table(heading, ['', *columns], rows, text_columns=1 + len(columns))


def cell(text: Any) -> str:
    """One line that ends no cell and is not HTML."""
    text = ' '.join(str(text).split())
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('|', '\\|')


def write_page(path: pathlib.Path, text: str) -> None:
    """Writes the HTML of a Markdown text, whose pictures are PNG files relative to `path`."""
    body = markdown.markdown(text, extensions=['tables'])
    # A picture with a caption is a tile: small ones stand side by side.
    tile = r'<figure>\1<figcaption>\2</figcaption></figure>'
    body = re.sub(r'<p>(<img .*? />) (.+?)</p>', tile, body)
    body = re.sub(r'(?<=\d) %', '&nbsp;%', body)
    title = re.search('<h1>(.*)</h1>|$', body)[1]

    def inline(match):
        picture = (path.parent / html.unescape(match.group(1))).resolve()
        if path.parent.resolve() not in picture.parents or not picture.is_file():
            return 'src=""'
        content = base64.b64encode(picture.read_bytes()).decode()
        return 'src="data:image/png;base64,%s"' % content

    body = re.sub('src="([^"]+)"', inline, body)
    page = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>%s</title>'
    page += '<style>%s</style></head>\n<body>\n%s\n<script>%s</script>\n</body></html>\n'
    write_text(path, page % (title, STYLE, body, SCRIPT))
