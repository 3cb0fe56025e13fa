// A column is { title, value(row), text(row), isText, sorts }; rows are any objects.
function drawTable(table, title, columns, rows) {
  const body = element('tbody');
  const cell = (column, row, tag) => {
    const made = element(tag, { className: column.isText ? 'text' : '' });
    if (column.swatch) made.append(swatch(column.swatch(row)));
    made.append(column.text(row));
    if (column.tone) made.classList.add(...column.tone(row));
    if (tag === 'th') made.scope = 'row';
    return made;
  };
  const show = (order) => body.replaceChildren(...order.map((row) =>
    element('tr', {}, ...columns.map((column, place) => cell(column, row, place ? 'td' : 'th')))));
  const heads = columns.map((column) => {
    const head = element('th', { scope: 'col', className: column.isText ? 'text' : '' });
    if (!column.value) {
      head.textContent = column.title;
      return head;
    }
    const button = element('button', { type: 'button', textContent: column.title });
    button.addEventListener('click', () => {
      const isRising = head.getAttribute('aria-sort') === 'descending';
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', isRising ? 'ascending' : 'descending');
      show(sorted(rows, column.value, isRising));
    });
    head.append(button);
    return head;
  });
  table.replaceChildren(
    element('caption', { textContent: title }),
    element('thead', {}, element('tr', {}, ...heads)),
    body,
  );
  show(rows);
  table.hidden = !rows.length;
}

// What is undefined comes last, whichever way.
function sorted(rows, value, isRising) {
  const sign = isRising ? 1 : -1;
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return sign * (typeof a === 'string' ? a.localeCompare(b) : a - b);
  });
}

function plainColumn(title, value, text = value, extra = {}) {
  return { title, value, text: (row) => String(text(row) ?? '–'), ...extra };
}

function change(before, after) {
  const isKnown = before !== null && after !== null && before !== undefined && after !== undefined;
  return isKnown ? after - before : null;
}

const signed = (value) => (value === null ? '–' : `${value >= 0 ? '+' : '−'}${number(Math.abs(value))}`);

function changeColumn(title, value, lowerIsBetter = false) {
  return plainColumn(title, value, (row) => signed(value(row)), {
    tone: (row) => {
      const good = (lowerIsBetter ? -1 : 1) * (value(row) ?? 0);
      if (Math.abs(good) < 0.0005) return [];
      return [good > 0 ? 'better' : 'worse'];
    },
  });
}

function drawClassTable() {
  const scored = runs.filter((run) => run.scores);
  const rows = data.classes.map((entry, id) => ({
    ...entry,
    group: [...new Set(runs.map((run) => run.classGroups[id]))].join(' | '),
    costs: [...new Set(runs.map((run) => run.costs[id]))],
    id,
  }));
  const of = (run, name) => (row) => run.classScores[name][row.id];
  const column = (title, value) => plainColumn(title, value, (row) => score(value(row)));
  const columns = [
    plainColumn('class', (row) => row.name, (row) => row.name, { swatch: (row) => row.color }),
    plainColumn('group', (row) => row.group),
    plainColumn('cost', (row) => row.costs[0], (row) => row.costs.map(costText).join(' | ')),
  ];
  scored.forEach((run, place) => {
    const suffix = scored.length > 1 ? ` ${shortened(run.name)}` : '';
    columns.push(column(`IoU${suffix}`, of(run, 'iou')));
    if (place) {
      const before = of(scored[0], 'iou');
      const value = (row) => change(before(row), of(run, 'iou')(row));
      columns.push(changeColumn(`change${suffix}`, value));
    }
    columns.push(column(`false safe${suffix}`, of(run, 'false_safe')));
  });
  if (scored.length === 1) {
    for (const [name, title] of [['precision', 'precision'], ['recall', 'recall'],
      ['dice', 'Dice'], ['truth_share', 'share of truth'], ['predicted_share', 'predicted']]) {
      columns.push(column(title, of(scored[0], name)));
    }
  }
  drawTable($('classes'), 'IoU of each class, of all frames together', columns, rows);
}

function drawGroupTable() {
  const scored = runs.filter((run) => run.scores);
  const of = (run, name) => run.groups.find((group) => group.name === name);
  const names = [...new Set(scored.flatMap((run) => run.groups.map((group) => group.name)))];
  // What is of all runs is told of the first that has the group.
  const rows = names.map((name) => scored.map((run) => of(run, name)).find(Boolean));
  const columns = [plainColumn('traversability group', (row) => row.name)];
  scored.forEach((run) => {
    const value = (row) => of(run, row.name)?.iou;
    const title = scored.length > 1 ? `IoU ${shortened(run.name)}` : 'IoU';
    columns.push(plainColumn(title, value, (row) => score(value(row))));
  });
  columns.push(plainColumn('share of truth', (row) => row.truth_share, (row) => percent(row.truth_share)));
  columns.push({ title: 'classes', text: (row) => row.classes.join(', '), isText: true });
  drawTable($('groups'), 'Classes of one traversability group as one', columns, rows);
}

function withRun(columns, place) {
  if (isComparison) columns.splice(place, 0, plainColumn('run', (row) => shortened(row.run)));
  return columns;
}

function drawEnvironmentTable() {
  const rows = runs.filter((run) => run.scores).flatMap((run) =>
    Object.entries(run.environments).map(([name, scores]) => ({ run: run.name, name, ...scores })));
  const column = (title, key) => plainColumn(title, (row) => row[key], (row) => score(row[key]));
  const columns = [
    plainColumn('camera or place', (row) => row.name),
    column('mIoU, in truth', 'miou_present'),
    column('mIoU, all classes', 'miou_all_absent_0'),
    column('pixel accuracy', 'pixel_accuracy'),
    column('false safe', 'false_safe_rate'),
    column('false alarm', 'false_alarm_rate'),
  ];
  drawTable($('environments'), 'Cameras and places', withRun(columns, 1), rows);
}

function drawRecording() {
  const cameras = runs.flatMap((run) =>
    Object.entries(run.recording).map(([camera, facts]) => ({ run: run.name, camera, ...facts })));
  const column = (title, key) => plainColumn(title, (row) => row[key]);
  drawTable($('recording'), 'Recording', withRun([
    column('camera', 'camera'), column('frames', 'num_frames'), column('failed', 'num_failed'),
    column('period, ms', 'period_ms'), column('gaps', 'num_gaps'),
    column('missing', 'num_missing'), column('stamps backwards', 'num_backwards'),
    column('stamps repeated', 'num_repeated'),
  ], 1), cameras);
  const gaps = cameras.flatMap(({ run, camera, gaps: mine }) =>
    mine.slice(0, 20).map((gap) => ({ run, camera, ...gap })));
  drawTable($('gaps'), 'Longest gaps', withRun([
    column('camera', 'camera'),
    plainColumn('after, s', (row) => row.seconds, (row) => number(row.seconds, 2)),
    plainColumn('length, s', (row) => row.length_s, (row) => number(row.length_s, 3)),
    column('frames that would have fitted', 'missing'),
  ], 1), gaps);
  drawTable($('problems'), 'Problems', withRun([
    column('frames', 'count'),
    { title: 'what', text: (row) => row.problem, isText: true },
  ], 1), runs.flatMap((run) => run.problems.map((entry) => ({ run: run.name, ...entry }))));
  const isEmpty = ['recording', 'gaps', 'problems'].every((id) => $(id).hidden);
  $('recording-section').hidden = isEmpty;
}

function versionsOf(run) {
  const { versions, ...machine } = run.environment;
  const options = Object.entries(run.model.options).map(([key, value]) => [key, JSON.stringify(value)]);
  return new Map([
    ...(run.reference ? [['reference', run.reference.model]] : []),
    ['model', run.model.model], ['engine', run.model.engine], ...options,
    ['input', run.source.path], ['evaluated', run.date],
    ['frames per second, offline', run.frames_per_s],
    ...Object.entries(machine), ...Object.entries(versions),
  ]);
}

function drawVersions() {
  const found = runs.map(versionsOf);
  const names = [...new Set(found.flatMap((facts) => [...facts.keys()]))];
  drawTable($('versions'), 'Model, settings, machine and versions', [
    { title: 'what', text: (name) => name },
    ...found.map((facts, place) => ({
      title: isComparison ? shortened(runs[place].name) : 'value',
      text: (name) => String(facts.get(name) ?? '–'),
      isText: true,
    })),
  ], names);
}
