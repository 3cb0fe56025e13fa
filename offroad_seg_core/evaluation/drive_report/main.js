const CARDS = [
  ['miou_present', 'mIoU, classes in the truth'],
  ['miou', 'mIoU, in truth or prediction'],
  ['miou_all_absent_0', 'mIoU, all classes, absent as 0'],
  ['pixel_accuracy', 'pixels right'],
  ['false_safe_rate', 'false safe'],
  ['false_alarm_rate', 'false alarm'],
  ['ece', 'calibration error'],
];
const LOWER_IS_BETTER = ['false_safe_rate', 'false_alarm_rate', 'ece'];
const NUM_WORST = 12;
const NUM_BEST = 6;

function card(value, text, tone = '') {
  return element('div', { className: 'card' },
    element('b', { textContent: value, className: tone }), element('span', { textContent: text }));
}

function cardsOf(run) {
  const cards = [card(`${run.num_labelled} of ${run.num_frames}`, 'frames labelled')];
  for (const [key, text] of run.scores ? CARDS : []) {
    const before = run !== runs[0] && runs[0].scores;
    const delta = before ? change(before[key], run.scores[key]) : null;
    const good = (LOWER_IS_BETTER.includes(key) ? -1 : 1) * (delta ?? 0);
    const tone = Math.abs(good) < 0.0005 ? '' : good > 0 ? 'better' : 'worse';
    cards.push(card(number(run.scores[key]), text + (delta === null ? '' : ` (${signed(delta)})`), tone));
  }
  const { means, timings_ms: timings } = run;
  cards.push(card(percent(means.unlabeled_share), 'unknown pixels'));
  if (means.mean_confidence !== undefined) {
    cards.push(card(number(means.mean_confidence), 'mean confidence'));
  }
  for (const [name, text] of [['engine_ms', 'engine'], ['latency_ms', 'labels were old']]) {
    if (!timings[name]) continue;
    const p95 = `95 % below ${number(timings[name].p95, 0)} ms`;
    cards.push(card(`${number(timings[name].p50, 1)} ms`, `${text}, median; ${p95}`));
  }
  const recorded = Object.values(run.recording);
  if (recorded.length) {
    const missing = recorded.reduce((sum, facts) => sum + facts.num_missing, 0);
    cards.push(card(missing, 'frames missing in gaps'));
    cards.push(card(run.num_frames - run.num_labelled, 'frames without labels'));
  }
  return element('div', { className: 'cards' }, ...cards);
}

function drawHead() {
  const told = runs.map((run) => {
    const length = duration(run.source.duration_s);
    return `${run.model.model} on ${run.model.engine}; ${run.source.path}${length && `, ${length}`}`;
  });
  $('source').textContent = told.join(' | ');
  $('notes').replaceChildren(...runs.flatMap((run) =>
    run.notes.map((note) => element('li', { textContent: note }))));
  $('cards').replaceChildren(...runs.flatMap((run) =>
    (isComparison ? [element('h3', { textContent: run.name }), cardsOf(run)] : [cardsOf(run)])));
}

function ranking() {
  const { frames } = runs[0];
  const metric = frames.metrics.miou_present ? 'miou_present' : 'mean_confidence';
  const column = frames.metrics[metric];
  if (!column) return [];
  const known = frames.path.flatMap((path, index) => (column[index] === null ? [] : [index]));
  const rising = [...known].sort((a, b) => column[a] - column[b]);
  const title = metric === 'miou_present' ? 'mIoU' : 'confidence';
  const text = (index) => `${title} ${number(column[index])}`;
  const lists = [
    [metric === 'miou_present' ? 'Worst' : 'Least sure', rising.slice(0, NUM_WORST), text],
    [metric === 'miou_present' ? 'Best' : 'Surest', rising.slice(-NUM_BEST).reverse(), text],
  ];
  const after = isComparison && runs[1].frames.metrics[metric];
  if (after) {
    const delta = (index) => change(column[index], after[frameIndex[1].get(frames.path[index])]);
    const moved = known.filter((index) => delta(index) !== null)
      .sort((a, b) => Math.abs(delta(b)) - Math.abs(delta(a)));
    const told = (index) => `${signed(delta(index))} in ${runs[1].name}`;
    lists.unshift(['Changed most', moved.slice(0, NUM_WORST), told]);
  }
  return lists.filter(([, found]) => found.length);
}

// Pictures are loaded when they come into view.
function drawExtremes() {
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((seen) => seen.isIntersecting)) {
      watcher.unobserve(entry.target);
      const index = Number(entry.target.dataset.index);
      decodeFrame(0, index).then((frame) => {
        if (frame) drawLayer(entry.target.querySelector('canvas'), frame, 'traversability');
      });
    }
  }, { rootMargin: '200px' });
  const { frames } = runs[0];
  for (const [title, found, text] of ranking()) {
    const thumbs = found.map((index) => {
      const camera = frames.cameras[frames.camera[index]];
      const when = frames.isTimed ? `${number(frames.seconds[index], 1)} s` : index;
      const button = element('button', { type: 'button', className: 'thumb' },
        element('canvas', { width: 16, height: 9, ariaHidden: 'true' }),
        element('span', { textContent: `${camera}, ${when}` }),
        element('span', { textContent: text(index) }));
      button.dataset.index = index;
      button.addEventListener('click', () => {
        select(index);
        $('timeline-section').scrollIntoView();
        $('frame').focus({ preventScroll: true });
      });
      watcher.observe(button);
      return button;
    });
    $('extremes').append(element('h3', { textContent: title }),
      element('div', { className: 'thumbs' }, ...thumbs));
  }
  $('extremes-section').hidden = !$('extremes').children.length;
}

function drawScores() {
  const scored = runs.flatMap((run, place) => (run.scores ? [[String(place), run.name]] : []));
  for (const id of ['classes-section', 'confusion-section', 'confidence-section']) {
    $(id).hidden = !scored.length;
  }
  if (!scored.length) return;
  drawClassTable();
  drawGroupTable();
  drawEnvironmentTable();
  fill($('confusion-run'), scored);
  $('confusion-run').addEventListener('change', drawConfusion);
  $('confusion-kind').addEventListener('change', drawConfusion);
  drawConfusion();
  drawConfidence();
}

function start() {
  drawHead();
  startViewer();
  startTimeline();
  drawScores();
  drawExtremes();
  fill($('share-camera'), runs.flatMap((run, place) => Object.keys(run.shares).map((camera) =>
    [JSON.stringify([place, camera]), isComparison ? `${run.name}: ${camera}` : camera])));
  $('share-camera').addEventListener('change', drawShares);
  drawShares();
  drawRecording();
  drawVersions();
  const first = runs[0].frames.hasPicture.indexOf(1);
  return select(Math.max(0, first));
}

// Embedded frames stand behind this script.
document.addEventListener('DOMContentLoaded', () => start().then(() => {
  document.body.dataset.ready = 'yes';
}));
