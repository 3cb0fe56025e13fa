// The choice of all cameras; others are chosen by their names, which are never empty.
const ALL = '';
const isChosen = (choice, camera) => choice === ALL || choice === camera;
// An element a frame would be too many; who zooms in gets to see the others.
const MAX_MARKERS = 1000;
const MAX_DOTTED = 400;

// What a run's camera has of a column, and a line through it. Lines break where nothing is known,
// and so would not show a value between two such places.
function lineTraces(run, name, values, color) {
  const mine = frames.filter((frame) =>
    frame.camera === name && frame.places[run] !== undefined);
  const y = mine.map((frame) => values(frame));
  const isKnown = (index) => (y[index] ?? null) !== null;
  const known = y.flatMap((_, index) => (isKnown(index) ? [index] : []));
  const isDotted = known.length <= MAX_DOTTED;
  const line = {
    type: 'scatter',
    mode: isDotted ? 'lines+markers' : 'lines',
    marker: { size: 5, color },
    line: { width: 1.5, dash: run ? 'dot' : 'solid', color },
    name: legendText(nameOf(run, name)),
    legendgroup: `${run} ${name}`,
    x: mine.map((frame) => runs[run].frames.seconds[frame.places[run]]),
    y,
    customdata: mine.map((frame) => frame.path),
    hovertemplate: '%{y:.4~r} at %{x:.2f}<extra>%{fullData.name}</extra>',
  };
  const alone = isDotted ? [] : known.filter((index) => !isKnown(index - 1) && !isKnown(index + 1));
  if (!alone.length) return [line];
  const of = (list) => alone.map((index) => list[index]);
  const marker = { ...line.marker, maxdisplayed: MAX_MARKERS };
  const isolated = { mode: 'markers', marker, showlegend: false, hoverinfo: 'skip' };
  return [line, { ...line, ...isolated, hovertemplate: undefined, x: of(line.x), y: of(y),
    customdata: of(line.customdata) }];
}

function timelineTraces(metric, camera) {
  const owners = runs.flatMap((run, place) => run.frames.cameras.map((name) => [place, name]));
  return owners.flatMap(([run, name], place) =>
    (runs[run].frames.metrics[metric] && isChosen(camera, name)
      ? lineTraces(run, name, (frame) => metricOf(frame, run, metric), seriesColor(place))
      : []));
}

function differenceTraces(metric, camera) {
  return runs.slice(1).flatMap((run, before) => {
    const change_ = (frame) => change(metricOf(frame, 0, metric), metricOf(frame, before + 1, metric));
    const kept = frames.filter((frame) => isChosen(camera, frame.camera) && change_(frame) !== null);
    return kept.length ? [{
      type: 'scatter',
      mode: 'markers',
      marker: { size: 4, color: seriesColor(before), maxdisplayed: MAX_MARKERS },
      name: legendText(`${run.name} − ${runs[0].name}`),
      x: kept.map((frame) => frame.seconds),
      y: kept.map(change_),
      customdata: kept.map((frame) => frame.path),
      hovertemplate: '%{y:+.3f} at %{x:.2f}<extra>%{fullData.name}</extra>',
    }] : [];
  });
}

function problemTraces(camera) {
  return runs.flatMap(({ frames: mine }, run) => {
    const failed = frames.filter((frame) =>
      isChosen(camera, frame.camera) && valueOf(frame, run, 'problem'));
    return failed.length ? [{
      type: 'scatter',
      mode: 'markers',
      name: legendText(nameOf(run, 'problem')),
      marker: { symbol: run ? 'x-open' : 'x', size: 8, color: '#a40e26', maxdisplayed: MAX_MARKERS },
      x: failed.map((frame) => mine.seconds[frame.places[run]]),
      y: failed.map(() => 0),
      text: failed.map((frame) => plain(valueOf(frame, run, 'problem'))),
      customdata: failed.map((frame) => frame.path),
      hovertemplate: '%{text}<extra>%{fullData.name}</extra>',
    }] : [];
  });
}

const here = () => {
  const { seconds } = frames[viewer.index];
  return {
    type: 'line', xref: 'x', yref: 'paper', x0: seconds, x1: seconds, y0: 0, y1: 1,
    line: { color: INK, width: 1.5 },
  };
};

// Runs and cameras of one drive may have the same gaps.
function gapShapes(camera) {
  const found = new Map();
  for (const [name, facts] of runs.flatMap((run) => Object.entries(run.recording))) {
    for (const gap of isChosen(camera, name) ? facts.gaps : []) {
      found.set(`${gap.seconds} ${gap.length_s}`, {
        type: 'rect', xref: 'x', yref: 'paper', x0: gap.seconds, x1: gap.seconds + gap.length_s,
        y0: 0, y1: 1, fillcolor: '#bf5b00', opacity: 0.14, line: { width: 0 }, layer: 'below',
      });
    }
  }
  return [...found.values()];
}

const timelineShapes = () => [...gapShapes($('camera').value), here()];

function drawTimeline() {
  const [kind, metric] = $('metric').value.split(' ');
  const camera = $('camera').value;
  const draw = kind === 'change' ? differenceTraces : timelineTraces;
  return drawChart('timeline', [...draw(metric, camera), ...problemTraces(camera)], {
    xaxis: axis(isTimed ? 'seconds' : 'frame'),
    yaxis: axis(''),
    // Anywhere in the chart means the nearest frame.
    hoverdistance: -1,
    shapes: timelineShapes(),
    uirevision: $('metric').value,
  });
}

function startTimeline() {
  const names = Object.keys(data.metrics).filter((name) =>
    runs.some((run) => run.frames.metrics[name]));
  const choices = names.map((name) => [`value ${name}`, data.metrics[name]]);
  if (isComparison) {
    choices.push(...names.map((name) => [`change ${name}`, `change: ${data.metrics[name]}`]));
  }
  fill($('metric'), choices);
  const cameras = [...new Set(runs.flatMap((run) => run.frames.cameras))];
  const named = cameras.map((name) => [name, name]);
  fill($('camera'), [[ALL, 'all'], ...(named.length > 1 ? named : [])]);
  $('metric').addEventListener('change', drawTimeline);
  $('camera').addEventListener('change', drawTimeline);
  drawTimeline().then((chart) => {
    chart.on('plotly_click', (event) => select(placeOf.get(event.points[0].customdata)));
  });
  listeners.push(() => Plotly.relayout('timeline', { shapes: timelineShapes() }));
}
