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
    x: columns.map((id) => plain(names[id])),
    y: rows.map((id) => plain(names[id])),
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
  const curves = runs.flatMap((run, place) => (run.scores ? [{
    type: 'scatter',
    mode: 'lines+markers',
    name: legendText(`${isComparison ? run.name : 'measured'}, ECE ${score(run.scores.ece)}`),
    marker: { color: seriesColor(place) },
    x: run.calibration.bin_confidence,
    y: run.calibration.bin_accuracy,
    customdata: run.calibration.bin_pixels,
    hovertemplate: 'confidence %{x:.2f}: %{y:.1%} right of %{customdata:,} px<extra></extra>',
  }] : []));
  curves.unshift({
    type: 'scatter', mode: 'lines', name: 'as sure as right', x: [0, 1], y: [0, 1],
    line: { color: '#57606a', dash: 'dash' }, hoverinfo: 'skip',
  });
  drawChart('calibration', curves, {
    xaxis: axis('confidence', { range: [0, 1.02] }),
    yaxis: axis('share that is right', { range: [0, 1.02] }),
  });
  startOperating();
}

function startOperating() {
  const drawn = runs.flatMap((run, place) => (run.operating ? [[String(place), run.name]] : []));
  for (const id of ['operating', 'operating-text', 'operating-controls']) {
    $(id).hidden = !drawn.length;
  }
  $('operating-missing').hidden = drawn.length > 0;
  fill($('operating-run'), drawn);
  $('operating-run').addEventListener('change', drawOperating);
  if (drawn.length) drawOperating();
}

function drawOperating() {
  const { operating } = runs[Number($('operating-run').value)];
  const classes = data.classes.flatMap((entry, id) => {
    if (!operating.recall[id].some((value) => value !== null)) return [];
    return [{
      type: 'scatter',
      mode: 'lines+markers',
      name: legendText(entry.name),
      line: { color: entry.color },
      marker: {
        color: entry.color,
        size: operating.threshold.map((value) => (value ? 6 : 12)),
        // Pale classes, too, stand out from the paper.
        line: { width: 1, color: INK },
      },
      x: operating.recall[id],
      y: operating.precision[id],
      customdata: operating.threshold,
      hovertemplate: '%{fullData.name} from confidence %{customdata:.2f}<br>'
        + 'recall %{x:.3f}, precision %{y:.3f}<extra></extra>',
    }];
  });
  return drawChart('operating', classes, {
    xaxis: axis('recall', { range: [0, 1.02] }),
    yaxis: axis('precision', { range: [0, 1.02] }),
    showlegend: true,
  });
}

function drawShares() {
  const [run, camera] = JSON.parse($('share-camera').value);
  const shares = runs[run].shares[camera];
  const mode = shares.seconds.length > 1 ? 'lines' : 'lines+markers';
  const traces = data.classes.flatMap((entry, id) =>
    (shares.classes[id].some((value) => value) ? [{
      type: 'scatter', mode, stackgroup: 'one', name: legendText(entry.name),
      line: { width: 0.5, color: INK }, fillcolor: entry.color, marker: { color: entry.color },
      x: shares.seconds, y: shares.classes[id],
      hovertemplate: '%{y:.1%}<extra>%{fullData.name}</extra>',
    }] : []));
  return drawChart('shares', traces, {
    xaxis: axis(runs[run].frames.isTimed ? 'seconds' : 'frame'),
    yaxis: axis('share of the pixels', { range: [0, 1], tickformat: '.0%' }),
    hoverdistance: -1,
    showlegend: true,
  });
}

// The labelled frame of a run's camera that is nearest to a place on the axis.
function nearestLabelled(run, camera, seconds) {
  const labelled = frames.flatMap((frame, index) =>
    (frame.camera === camera && metricOf(frame, run, 'unlabeled_share') !== null ? [index] : []));
  const distance = (index) =>
    Math.abs(runs[run].frames.seconds[frames[index].places[run]] - seconds);
  return labelled.reduce((best, index) => (distance(index) < distance(best) ? index : best));
}

function startShares() {
  fill($('share-camera'), runs.flatMap((run, place) => Object.keys(run.shares).map((camera) =>
    [JSON.stringify([place, camera]), nameOf(place, camera)])));
  $('share-camera').addEventListener('change', drawShares);
  drawShares().then((chart) => {
    chart.on('plotly_click', (event) => {
      const [run, camera] = JSON.parse($('share-camera').value);
      lookAt(nearestLabelled(run, camera, event.points[0].x));
    });
  });
}
