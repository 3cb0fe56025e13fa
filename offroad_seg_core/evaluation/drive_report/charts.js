// The choice of all cameras; others are chosen by their names, which are never empty.
const ALL = '';
const isChosen = (choice, camera) => choice === ALL || choice === camera;

function timelineTraces(metric, camera) {
  const traces = [];
  runs.forEach((run, number_) => {
    const { frames } = run;
    const column = frames.metrics[metric];
    frames.cameras.forEach((name, place) => {
      if (!column || !isChosen(camera, name)) return;
      const mine = frames.camera.flatMap((owner, index) => (owner === place ? [index] : []));
      traces.push({
        type: 'scatter',
        mode: mine.length > 400 ? 'lines' : 'lines+markers',
        marker: { size: 5 },
        line: { width: 1.5, dash: number_ ? 'dot' : 'solid' },
        name: isComparison ? `${run.name}: ${name}` : name,
        x: mine.map((index) => frames.seconds[index]),
        y: mine.map((index) => column[index]),
        customdata: mine.map((index) => frames.path[index]),
        hovertemplate: '%{y:.3f} at %{x:.2f}<extra>%{fullData.name}</extra>',
      });
    });
  });
  return traces;
}

function differenceTraces(metric, camera) {
  const { frames } = runs[0];
  const before = frames.metrics[metric];
  return runs.slice(1).flatMap((run, place) => {
    const after = run.frames.metrics[metric];
    if (!before || !after) return [];
    const kept = frames.path.flatMap((path, index) => {
      const other = frameIndex[place + 1].get(path);
      const isWanted = isChosen(camera, frames.cameras[frames.camera[index]]);
      const isKnown = isWanted && other !== undefined && before[index] !== null;
      return isKnown && after[other] !== null ? [[index, after[other] - before[index]]] : [];
    });
    return [{
      type: 'scatter',
      mode: 'markers',
      marker: { size: 4 },
      name: `${run.name} − ${runs[0].name}`,
      x: kept.map(([index]) => frames.seconds[index]),
      y: kept.map(([, change]) => change),
      customdata: kept.map(([index]) => frames.path[index]),
      hovertemplate: '%{y:+.3f} at %{x:.2f}<extra>%{fullData.name}</extra>',
    }];
  });
}

function failureTrace(camera) {
  const { frames } = runs[0];
  const failed = frames.problem.flatMap((problem, index) =>
    problem && isChosen(camera, frames.cameras[frames.camera[index]]) ? [index] : []);
  return {
    type: 'scatter',
    mode: 'markers',
    name: 'problem',
    marker: { symbol: 'x', size: 8, color: '#a40e26' },
    x: failed.map((index) => frames.seconds[index]),
    y: failed.map(() => 0),
    text: failed.map((index) => frames.problem[index]),
    customdata: failed.map((index) => frames.path[index]),
    hovertemplate: '%{text}<extra></extra>',
  };
}

const here = (seconds) => ({
  type: 'line', xref: 'x', yref: 'paper', x0: seconds, x1: seconds, y0: 0, y1: 1,
  line: { color: '#1b1f24', width: 1.5 },
});

function gapShapes() {
  const start = BigInt(runs[0].frames.startNs);
  return Object.values(runs[0].recording).flatMap((facts) =>
    facts.gaps.slice(0, 100).map((gap) => {
      const x0 = Number(BigInt(gap.start_ns) - start) / 1e9;
      return {
        type: 'rect', xref: 'x', yref: 'paper', x0, x1: x0 + gap.length_s, y0: 0, y1: 1,
        fillcolor: '#bf5b00', opacity: 0.14, line: { width: 0 }, layer: 'below',
      };
    }));
}

function drawTimeline() {
  const [kind, metric] = $('metric').value.split(' ');
  const camera = $('camera').value;
  const traces = kind === 'change'
    ? differenceTraces(metric, camera)
    : timelineTraces(metric, camera);
  const failures = failureTrace(camera);
  if (failures.x.length) traces.push(failures);
  const { frames } = runs[0];
  const shapes = [...gapShapes(), here(frames.seconds[viewer.index])];
  return Plotly.react('timeline', traces, layout({
    xaxis: axis(frames.isTimed ? 'seconds' : 'frame'),
    yaxis: axis(''),
    // Anywhere in the chart means the nearest frame.
    hoverdistance: -1,
    colorway: SERIES,
    shapes,
    uirevision: $('metric').value,
  }), PLOT);
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
    chart.on('plotly_click', (event) => {
      const index = frameIndex[0].get(event.points[0].customdata);
      if (index !== undefined) select(index);
    });
  });
  listeners.push((index) => {
    const shapes = [...gapShapes(), here(runs[0].frames.seconds[index])];
    Plotly.relayout('timeline', { shapes });
  });
}

function drawConfusion() {
  const run = runs[Number($('confusion-run').value)];
  const isPercent = $('confusion-kind').value === 'percent';
  const rows = data.classes.flatMap((entry, id) =>
    run.confusion[id].some((count) => count) ? [id] : []);
  const names = [...data.classes.map((entry) => entry.name), 'unlabeled'];
  const columns = names.flatMap((name, id) =>
    rows.some((row) => run.confusion[row][id]) || rows.includes(id) ? [id] : []);
  const totals = run.confusion.map((row) => row.reduce((sum, count) => sum + count, 0));
  const share = (row, column) => (100 * run.confusion[row][column]) / totals[row];
  const value = (row, column) => (isPercent ? share(row, column) : run.confusion[row][column]);
  const z = rows.map((row) => columns.map((column) => value(row, column)));
  const isSmall = columns.length <= 16;
  $('confusion').style.minWidth = isSmall ? '560px' : `${26 * columns.length + 160}px`;
  return Plotly.react('confusion', [{
    type: 'heatmap',
    z,
    x: columns.map((id) => names[id]),
    y: rows.map((id) => names[id]),
    text: z.map((row) => row.map((cell) =>
      (isPercent && cell >= 0.5 ? cell.toFixed(0) : ''))),
    texttemplate: isSmall ? '%{text}' : '',
    customdata: rows.map((row) =>
      columns.map((column) => [run.confusion[row][column], share(row, column)])),
    hovertemplate: 'true %{y}, predicted %{x}<br>%{customdata[0]:,} px, '
      + '%{customdata[1]:.2f} %<extra></extra>',
    colorscale: [[0, '#ffffff'], [0.25, '#c6dbef'], [1, '#08306b']],
    showscale: false,
  }], layout({
    height: Math.max(320, 34 * rows.length + 150),
    margin: { l: 130, r: 12, t: 8, b: 110 },
    xaxis: { title: { text: 'predicted' }, type: 'category', tickangle: -45 },
    yaxis: { title: { text: 'truth' }, type: 'category', autorange: 'reversed' },
  }), PLOT);
}

function drawConfidence() {
  const curves = runs.filter((run) => run.scores).map((run, place) => ({
    type: 'scatter',
    mode: 'lines+markers',
    name: `${isComparison ? run.name : 'measured'}, ECE ${number(run.scores.ece)}`,
    marker: { color: SERIES[place] },
    x: run.calibration.bin_confidence,
    y: run.calibration.bin_accuracy,
    customdata: run.calibration.bin_pixels,
    hovertemplate: 'confidence %{x:.2f}: %{y:.1%} right of %{customdata:,} px<extra></extra>',
  }));
  curves.unshift({
    type: 'scatter', mode: 'lines', name: 'as sure as right', x: [0, 1], y: [0, 1],
    line: { color: '#57606a', dash: 'dash' }, hoverinfo: 'skip',
  });
  Plotly.react('calibration', curves, layout({
    xaxis: axis('confidence', { range: [0, 1.02] }),
    yaxis: axis('share that is right', { range: [0, 1.02] }),
  }), PLOT);
  drawOperating();
}

function drawOperating() {
  const run = runs.find(({ scores, operating }) => scores && operating);
  $('operating').hidden = !run;
  $('operating-text').hidden = !run;
  $('operating-missing').hidden = Boolean(run);
  if (!run) return;
  $('operating-run').textContent = isComparison ? ` of ${run.name}` : '';
  const { operating } = run;
  const classes = data.classes.flatMap((entry, id) => {
    if (!operating.recall[id].some((value) => value !== null)) return [];
    return [{
      type: 'scatter',
      mode: 'lines+markers',
      name: entry.name,
      line: { color: entry.color },
      marker: { color: entry.color, size: operating.threshold.map((value) => (value ? 0.1 : 8)) },
      x: operating.recall[id],
      y: operating.precision[id],
      customdata: operating.threshold,
      hovertemplate: `${entry.name} from confidence %{customdata:.2f}<br>`
        + 'recall %{x:.3f}, precision %{y:.3f}<extra></extra>',
    }];
  });
  Plotly.react('operating', classes, layout({
    xaxis: axis('recall', { range: [0, 1.02] }),
    yaxis: axis('precision', { range: [0, 1.02] }),
    showlegend: false,
  }), PLOT);
}

function drawShares() {
  const [run, camera] = JSON.parse($('share-camera').value);
  const shares = runs[run].shares[camera];
  const traces = data.classes.flatMap((entry, id) =>
    (shares.classes[id].some((value) => value) ? [{
      type: 'scatter', mode: 'lines', stackgroup: 'one', name: entry.name,
      line: { width: 0.5, color: entry.color }, fillcolor: entry.color,
      x: shares.seconds, y: shares.classes[id],
      hovertemplate: '%{y:.1%}<extra>%{fullData.name}</extra>',
    }] : []));
  return Plotly.react('shares', traces, layout({
    xaxis: axis(runs[run].frames.isTimed ? 'seconds' : 'frame'),
    yaxis: axis('share of the pixels', { range: [0, 1], tickformat: '.0%' }),
    showlegend: false,
  }), PLOT);
}
