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
    cards.push(card(score(run.scores[key]), text + (delta === null ? '' : ` (${signed(delta)})`), tone));
  }
  const { means, timings_ms: timings } = run;
  cards.push(card(percent(means.unlabeled_share), 'unknown pixels'));
  if (means.mean_confidence !== undefined) {
    cards.push(card(score(means.mean_confidence), 'mean confidence'));
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
  const notes = [...data.notes, ...runs.flatMap((run, place) =>
    run.notes.map((note) => nameOf(place, note)))];
  $('notes').replaceChildren(...notes.map((note) => element('li', { textContent: note })));
  $('cards').replaceChildren(...runs.flatMap((run) =>
    (isComparison ? [element('h3', { textContent: run.name }), cardsOf(run)] : [cardsOf(run)])));
}

// Shows a frame and brings it into view.
function lookAt(index) {
  select(index);
  $('timeline-section').scrollIntoView();
  $('frame').focus({ preventScroll: true });
}

// Lists of [title, run, frames, text of each], by the first run that can tell.
function ranking() {
  const metric = ['miou_present', 'mean_confidence'].find((name) =>
    runs.some((run) => run.frames.metrics[name]));
  if (!metric) return [];
  const [word, worst, best] = metric === 'miou_present'
    ? ['mIoU', 'Worst', 'Best'] : ['confidence', 'Least sure', 'Surest'];
  const first = runs.findIndex((run) => run.frames.metrics[metric]);
  const of = (run) => (index) => metricOf(frames[index], run, metric);
  const value = of(first);
  const known = [...frames.keys()].filter((index) => value(index) !== null);
  const rising = [...known].sort((a, b) => value(a) - value(b));
  const text = (index) => `${word} ${score(value(index))}`;
  const title = (start) => (isComparison ? `${start} of ${runs[first].name}` : start);
  const changes = runs.slice(first + 1).map((run, place) => {
    const delta = (index) => change(value(index), of(first + 1 + place)(index));
    const moved = known.filter((index) => delta(index) !== null)
      .sort((a, b) => Math.abs(delta(b)) - Math.abs(delta(a)));
    const told = (index) => `${word} ${signed(delta(index))}`;
    return [`Changed most in ${run.name}`, first + 1 + place, moved.slice(0, NUM_WORST), told];
  });
  return [
    ...changes,
    [title(worst), first, rising.slice(0, NUM_WORST), text],
    [title(best), first, rising.slice(-NUM_BEST).reverse(), text],
  ].filter(([, , found]) => found.length);
}

function thumb(run, index, text) {
  const frame = frames[index];
  const button = element('button', { type: 'button', className: 'thumb' },
    element('canvas', { width: 16, height: 9, ariaHidden: 'true' }),
    element('span', { textContent: `${frame.camera}, ${whenText(frame, 1)}` }),
    element('span', { textContent: text }));
  button.addEventListener('click', () => lookAt(index));
  button.draw = async () => {
    const { frame: pixels, reason } = await decodeFrame(run, frame);
    const canvas = button.querySelector('canvas');
    if (pixels) drawLayer(canvas, pixels, 'traversability', run);
    else canvas.replaceWith(element('span', { className: 'small', textContent: reason }));
  };
  return button;
}

// Pictures are loaded when they come into view.
function drawExtremes() {
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((seen) => seen.isIntersecting)) {
      watcher.unobserve(entry.target);
      entry.target.draw();
    }
  }, { rootMargin: '200px' });
  for (const [title, run, found, text] of ranking()) {
    const thumbs = found.map((index) => thumb(run, index, text(index)));
    thumbs.forEach((made) => watcher.observe(made));
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
  startShares();
  drawRecording();
  drawVersions();
  const first = frames.findIndex((frame) => runs.some((_, run) => valueOf(frame, run, 'hasPicture')));
  return select(Math.max(0, first));
}

// Embedded frames stand behind this script.
document.addEventListener('DOMContentLoaded', () => start().then(() => {
  document.body.dataset.ready = 'yes';
}));
