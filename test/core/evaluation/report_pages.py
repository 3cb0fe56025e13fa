"""What the tests of the report share: looks at its page, and results that were changed."""

import csv
import json
import shutil

import numpy as np


def shown(page, side='over'):
    """Return the pixels of a canvas, (H, W, 4)."""
    script = f"""() => {{
        const canvas = document.getElementById('{side}');
        const got = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, Array.from(got.data)];
    }}"""
    height, width, values = page.evaluate(script)
    return np.array(values).reshape(height, width, 4)


def wait_for_frame(page, path):
    page.wait_for_selector(f'#stage[data-frame="{path}"]')


def column(page, table, number):
    return page.locator(f'#{table} tbody tr > :nth-child({number})').all_inner_texts()


def set_range(page, name, value):
    page.locator(f'#{name}').evaluate(
        '(range, value) => { range.value = value; range.dispatchEvent(new Event("input")); }',
        value,
    )


def change_setting(page, name, value):
    """Choose the value of a list and wait until the pictures show it."""
    page.select_option(f'#{name}', value)
    chosen = ', '.join(page.locator(f'#{side}').input_value() for side in ('left', 'right'))
    page.wait_for_selector(f'#stage[data-layers="{chosen}"]')


def point_at(page, x, y):
    """Return what the page tells of a place in the picture, given as shares of its size."""
    page.locator('#stage').scroll_into_view_if_needed()
    box = page.locator('#stage').bounding_box()
    page.mouse.move(box['x'] + x * box['width'], box['y'] + y * box['height'])
    return page.locator('#inspector').inner_text()


def changed(source, target, change_row=None, change_summary=None):
    """Copy a result; return the folder of the copy.

    Args:
        source: The result.
        target: Folder of the copy.
        change_row: Changes a row of the table in place; where it returns False, that is left out.
        change_summary: Changes the summary in place.
    """
    shutil.copytree(source, target)
    if change_row:
        names, rows = read_rows(source)
        write_rows(target, names, [row for row in rows if change_row(row) is not False])
    if change_summary:
        content = json.loads((target / 'summary.json').read_text())
        change_summary(content)
        (target / 'summary.json').write_text(json.dumps(content))
    return target


def read_rows(folder):
    """Return the names of the table's columns and its rows."""
    with open(folder / 'frames.csv', newline='') as stream:
        reader = csv.DictReader(stream)
        return reader.fieldnames, list(reader)


def write_rows(folder, names, rows):
    """Write the table."""
    with open(folder / 'frames.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def multiplied(source, target, count, change_row=lambda index, row: None):
    """Make a result of so many frames from one of few: what a page has to bear."""
    shutil.copytree(source, target)
    names, rows = read_rows(source)
    made = []
    for index in range(count):
        row = dict(rows[index % len(rows)])
        time_ns = 10**18 + index * 10**8
        if index >= len(rows):
            row |= {'name': str(time_ns)}
        row |= {'stamp_ns': time_ns, 'time_ns': time_ns}
        change_row(index, row)
        made.append(row)
    write_rows(target, names, made)
    return target
