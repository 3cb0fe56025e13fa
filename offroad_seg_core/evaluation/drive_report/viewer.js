// The frame that is looked at: an index into the first run's frames.
const viewer = { index: 0, ticket: 0, shown: {} };
const hasTruth = runs.some((run) => run.num_with_truth > 0);
const listeners = [];

function layerChoices() {
  const choices = [['0 picture', 'picture']];
  runs.forEach((run, number_) => {
    const of = isComparison ? `${run.name}: ` : '';
    choices.push([`${number_} traversability`, `${of}traversability`]);
    choices.push([`${number_} classes`, `${of}classes`]);
    if (run.num_with_truth) choices.push([`${number_} errors`, `${of}errors`]);
  });
  if (hasTruth) choices.push(['0 truth', runs[0].reference ? 'reference' : 'truth']);
  return choices;
}

function captionText(index) {
  const frames = runs[0].frames;
  const seconds = frames.seconds[index];
  const when = frames.isTimed ? `${number(seconds, 2)} s` : `number ${seconds}`;
  const parts = [`${frames.cameras[frames.camera[index]]}, ${when}, stamp ${frames.stamp[index]}`];
  for (const name of Object.keys(data.metrics)) {
    const values = runs.map((run, number_) => {
      const place = frameIndex[number_].get(frames.path[index]);
      const column = run.frames.metrics[name];
      return column && place !== undefined ? column[place] : null;
    });
    if (values.some((value) => value !== null)) {
      parts.push(`${data.metrics[name]} ${values.map((value) => number(value)).join(' | ')}`);
    }
  }
  if (frames.problem[index]) parts.push(`problem: ${frames.problem[index]}`);
  return parts.join('; ');
}

async function drawSide(canvas, choice, ticket) {
  const [run, layer] = choice.split(' ');
  const path = runs[0].frames.path[viewer.index];
  const frame = await decodeFrame(Number(run), frameIndex[run].get(path));
  if (ticket !== viewer.ticket) return;
  const isThere = frame && (frame.truth || !['truth', 'errors'].includes(layer));
  canvas.style.visibility = isThere ? 'visible' : 'hidden';
  viewer.shown[canvas.id] = isThere ? { frame, run: Number(run), layer } : null;
  if (isThere) drawLayer(canvas, frame, layer);
  else if (canvas.id === 'under' && !canvas.width) canvas.height = 300;
}

async function redraw() {
  viewer.ticket += 1;
  const ticket = viewer.ticket;
  await Promise.all([
    drawSide($('under'), $('left').value, ticket),
    drawSide($('over'), $('right').value, ticket),
  ]);
  if (ticket !== viewer.ticket) return;
  $('missing').hidden = Boolean(viewer.shown.under || viewer.shown.over);
  $('stage').dataset.frame = runs[0].frames.path[viewer.index];
  moveSplit();
}

function select(index) {
  const count = runs[0].frames.path.length;
  viewer.index = Math.max(0, Math.min(count - 1, index));
  $('frame').value = viewer.index;
  const text = captionText(viewer.index);
  $('caption').textContent = text;
  $('frame').setAttribute('aria-valuetext', text);
  listeners.forEach((listen) => listen(viewer.index));
  return redraw();
}

// Left of the slider the left picture shows, right of it the right one.
function moveSplit() {
  const place = $('split').value;
  $('over').style.clipPath = `inset(0 0 0 ${place}%)`;
  $('divider').style.left = `${place}%`;
}

function step(direction) {
  const frames = runs[0].frames;
  const wanted = $('camera').value;
  let index = viewer.index + direction;
  while (frames.path[index] && !isChosen(wanted, frames.cameras[frames.camera[index]])) {
    index += direction;
  }
  if (frames.path[index]) select(index);
}

function inspect(event) {
  const box = $('stage').getBoundingClientRect();
  const side = 100 * ((event.clientX - box.left) / box.width);
  if (event.buttons === 1) {
    $('split').value = side;
    moveSplit();
  }
  const shown = viewer.shown.over ?? viewer.shown.under;
  if (!shown) return;
  const { frame } = shown;
  const x = Math.floor((frame.width * side) / 100);
  const y = Math.floor((frame.height * (event.clientY - box.top)) / box.height);
  if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) return;
  const name = (id) => {
    const known = data.classes[id];
    if (!known) return 'unlabeled';
    const cost = known.cost === data.unknownCost ? 'unknown' : known.cost;
    return `${known.name} (${known.group}, cost ${cost})`;
  };
  const place = y * frame.width + x;
  const truth = frame.truth ? `; truth: ${name(frame.truth[place])}` : '';
  const of = isComparison ? `${runs[shown.run].name}: ` : '';
  $('inspector').textContent = `${of}${name(frame.labels[place])}${truth}`;
}

function startViewer() {
  const choices = layerChoices();
  fill($('left'), choices);
  fill($('right'), choices);
  $('left').value = isComparison ? '0 traversability' : '0 picture';
  $('right').value = isComparison ? '1 traversability' : '0 traversability';
  $('frame').max = runs[0].frames.path.length - 1;
  $('frame').addEventListener('input', () => select(Number($('frame').value)));
  $('split').addEventListener('input', moveSplit);
  $('left').addEventListener('change', redraw);
  $('right').addEventListener('change', redraw);
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  $('stage').addEventListener('pointermove', inspect);
  $('stage').addEventListener('pointerdown', inspect);
  $('legend').replaceChildren(...data.classes.map((entry) => {
    const isKnown = entry.cost !== data.unknownCost;
    const cost = isKnown ? `cost ${entry.cost}` : 'cost unknown';
    const [red, green, blue] = data.costColors[entry.cost];
    const ground = isKnown ? `rgb(${red}, ${green}, ${blue})` : 'transparent';
    return element('li', {}, swatch(entry.color), swatch(ground), `${entry.name}, ${cost}`);
  }));
}
