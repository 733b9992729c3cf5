"""report.html: one file that needs nothing beside it."""

import base64
import html.parser
import json

from example_runs import EVAL, whole_run

from common.reporting import markdown, report


class Page(html.parser.HTMLParser):
    """Collects {'sources', 'links', 'tables'}; a table is a list of rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.scripts, self.tables, self._cell = [], 0, [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [attributes[key] for key in ('src', 'href') if key in attributes]
        self.scripts += tag == 'script'
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('th', 'td'):
            self.tables[-1][-1].append('')
            self._cell = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ('th', 'td')

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1][-1] += data.replace('\xa0', ' ')


def test_the_page_holds_its_pictures_and_all_classes(tmp_path):
    whole_run(tmp_path)
    names = 'airplane automobile bird cat deer dog frog horse ship truck'.split()
    (tmp_path / 'eval.json').write_text(json.dumps(dict(EVAL, classes=names)))
    report.write(tmp_path)
    page = Page((tmp_path / 'report.html').read_text())
    prefix = 'data:image/png;base64,'
    assert len(page.sources) == 4 and all(source.startswith(prefix) for source in page.sources)
    assert [base64.b64decode(source[len(prefix) :]) for source in page.sources] == [
        (tmp_path / 'plots' / name).read_bytes()
        for name in ('training.png', 'evaluation.png', 'throughput.png', 'confusion.png')
    ]
    classes = page.tables[-1]
    assert classes[0] == ['class', 'recall', 'precision', 'images']
    assert [row[0] for row in classes[1:]] == names
    assert classes[4] == ['cat', '73.17 %', '100.00 %', '41']
    assert classes[6] == ['dog', '100.00 %', '73.17 %', '30']
    measured = page.tables[0]
    assert measured[0] == ['', 'top-1', 'top-5', 'loss', 'images', 'images/s']
    assert measured[1][1] == '91.23 %'


def test_names_are_text(tmp_path, text_only):
    """Neither HTML nor a picture elsewhere comes in through what a file says."""
    (tmp_path / 'secret.png').write_bytes(b'secret')
    run = tmp_path / 'run'
    run.mkdir()
    whole_run(run)
    names = ['<script>x</script>', 'a|b', '![p](../secret.png)', '&amp;'] + list('efghij')
    content = dict(EVAL, classes=names, model='<script>x</script>', step='<script>x</script>')
    (run / 'eval.json').write_text(json.dumps(content))
    report.write(run)
    text = (run / 'report.html').read_text()
    page = Page(text)
    assert page.scripts == 1 and base64.b64encode(b'secret').decode() not in text
    assert [row[0] for row in page.tables[-1][1:5]] == [names[0], names[1], '', names[3]]
    assert '<title>&lt;script&gt;' in text


def test_a_picture_that_is_missing_leaves_a_gap(tmp_path):
    markdown.write_page(tmp_path / 'page.html', '# A\n\n![one](one.png)\n')
    assert Page((tmp_path / 'page.html').read_text()).sources == ['']


def test_galleries(tmp_path):
    (tmp_path / 'eval.json').write_text(json.dumps(EVAL))
    for folder, title in (('samples', 'Samples'), ('worst', 'Worst <images>')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'one.png').write_bytes(folder.encode())
        listed = [{'file': name, 'caption': 'a <b> c'} for name in ('one.png', 'gone.png')]
        content = json.dumps({'title': title, 'pictures': listed})
        (tmp_path / folder / 'gallery.json').write_text(content)
    (tmp_path / 'plots').mkdir()
    (tmp_path / 'plots' / 'gallery.json').write_text('[1]')
    text = report.write(tmp_path).read_text()
    assert text.index('## Samples') < text.index('## Worst &lt;images>')
    assert '![a &lt;b> c](samples/one.png) a &lt;b> c' in text and 'gone.png' not in text
    assert 'plots/gallery.json cannot be read' in text or 'plots/gallery.json does not' in text
    page = Page((tmp_path / 'report.html').read_text())
    pictures = [base64.b64decode(source.split(',')[1]) for source in page.sources]
    assert pictures == [b'samples', b'worst']
    tile = '<figcaption>a &lt;b&gt; c</figcaption></figure>'
    assert (tmp_path / 'report.html').read_text().count(tile) == 2
