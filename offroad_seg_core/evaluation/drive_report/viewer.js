// The frame that is looked at: an index into frames.
const viewer = { index: 0, ticket: 0, shown: {} };
const truthRun = runs.findIndex((run) => run.num_with_truth > 0);
const listeners = [];

function layerChoices() {
  const choices = [['any picture', 'picture']];
  runs.forEach((run, place) => {
    const layers = ['traversability', 'classes', ...(run.num_with_truth ? ['errors'] : [])];
    choices.push(...layers.map((layer) => [`${place} ${layer}`, nameOf(place, layer)]));
  });
  if (truthRun >= 0) {
    choices.push([`${truthRun} truth`, runs[truthRun].reference ? 'reference' : 'truth']);
  }
  return choices;
}

const whenText = ({ seconds }, digits) =>
  (isTimed ? `${number(seconds, digits)} s` : `number ${seconds}`);

function captionText(frame) {
  const parts = [`${frame.camera}, ${whenText(frame, 2)}, stamp ${frame.stamp}`];
  for (const name of Object.keys(data.metrics)) {
    const values = runs.map((_, run) => metricOf(frame, run, name));
    if (values.some((value) => value !== null)) {
      parts.push(`${data.metrics[name]} ${values.map(score).join(' | ')}`);
    }
  }
  runs.forEach((_, run) => {
    const problem = valueOf(frame, run, 'problem');
    if (problem) parts.push(nameOf(run, `problem: ${problem}`));
  });
  return parts.join('; ');
}

// Returns { frame, run, layer }, or { reason } why there is nothing to draw.
async function sideContent(choice, entry) {
  const [chosen, layer] = choice.split(' ');
  const withPicture = runs.findIndex((_, run) => valueOf(entry, run, 'hasPicture'));
  const run = chosen === 'any' ? Math.max(0, withPicture) : Number(chosen);
  const { frame, reason } = await decodeFrame(run, entry);
  if (reason) return { reason };
  const needsTruth = ['truth', 'errors'].includes(layer);
  if (needsTruth && !frame.truth) return { reason: 'This frame has no truth.' };
  return { frame, run, layer };
}

async function redraw() {
  viewer.ticket += 1;
  const { ticket } = viewer;
  const entry = frames[viewer.index];
  const choices = [$('left').value, $('right').value];
  const [under, over] = await Promise.all(choices.map((choice) => sideContent(choice, entry)));
  if (ticket !== viewer.ticket) return;
  viewer.shown = { under, over };
  for (const [id, { frame, layer, run, reason }] of Object.entries(viewer.shown)) {
    $(id).style.visibility = frame ? 'visible' : 'hidden';
    if (frame) drawLayer($(id), frame, layer, run);
    $(`${id}-missing`).textContent = reason ?? '';
    $(`${id}-missing`).hidden = Boolean(frame);
  }
  // The left picture holds the place of both.
  if (!under.frame && over.frame) {
    Object.assign($('under'), { width: over.frame.width, height: over.frame.height });
  }
  Object.assign($('stage').dataset, { frame: entry.path, layers: choices.join(', ') });
  moveSplit();
}

function select(index) {
  viewer.index = Math.max(0, Math.min(frames.length - 1, index));
  $('frame').value = viewer.index;
  const text = captionText(frames[viewer.index]);
  $('caption').textContent = text;
  $('frame').setAttribute('aria-valuetext', text);
  listeners.forEach((listen) => listen());
  return redraw();
}

// Left of the slider the left picture shows, right of it the right one.
function moveSplit() {
  const place = Number($('split').value);
  $('under').style.clipPath = `inset(0 ${100 - place}% 0 0)`;
  $('over').style.clipPath = `inset(0 0 0 ${place}%)`;
  $('under-missing').style.width = `${place}%`;
  $('over-missing').style.width = `${100 - place}%`;
  $('divider').style.left = `${place}%`;
}

function step(direction) {
  const wanted = $('camera').value;
  let index = viewer.index + direction;
  while (frames[index] && !isChosen(wanted, frames[index].camera)) index += direction;
  if (frames[index]) select(index);
}

function className(run, id) {
  const { costs, classGroups } = runs[run];
  if (!data.classes[id]) return 'unlabeled';
  return `${data.classes[id].name} (${classGroups[id]}, cost ${costText(costs[id])})`;
}

function inspect(event) {
  const box = $('stage').getBoundingClientRect();
  const side = 100 * ((event.clientX - box.left) / box.width);
  if (event.buttons === 1) {
    $('split').value = side;
    moveSplit();
  }
  const shown = viewer.shown[side < Number($('split').value) ? 'under' : 'over'];
  if (!shown?.frame) {
    $('inspector').textContent = shown?.reason ?? '';
    return;
  }
  const { frame, run } = shown;
  const x = Math.floor((frame.width * side) / 100);
  const y = Math.floor((frame.height * (event.clientY - box.top)) / box.height);
  if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) return;
  const place = y * frame.width + x;
  const truth = frame.truth ? `; truth: ${className(run, frame.truth[place])}` : '';
  $('inspector').textContent = nameOf(run, `${className(run, frame.labels[place])}${truth}`);
}

// A colour for each cost that a run gives the class.
function legendEntry({ name, color }, id) {
  const costs = [...new Set(runs.map((run) => run.costs[id]))];
  const grounds = costs.map((cost) => swatch(
    cost === data.unknownCost ? 'transparent' : `rgb(${data.costColors[cost].join(', ')})`,
  ));
  return element('li', {}, swatch(color), ...grounds, `${name}, cost ${costs.map(costText).join(' | ')}`);
}

function startViewer() {
  const choices = layerChoices();
  for (const [place, id] of ['left', 'right'].entries()) {
    fill($(id), choices);
    $(id).value = isComparison ? `${place} traversability` : choices[place][0];
    $(id).addEventListener('change', redraw);
  }
  $('frame').max = frames.length - 1;
  $('frame').addEventListener('input', () => select(Number($('frame').value)));
  $('split').addEventListener('input', moveSplit);
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  $('stage').addEventListener('pointermove', inspect);
  $('stage').addEventListener('pointerdown', inspect);
  $('legend').replaceChildren(...data.classes.map(legendEntry));
}
