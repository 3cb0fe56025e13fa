const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const isComparison = runs.length > 1;
// Each stands out from white three to one.
const SERIES = ['#0072b2', '#d55e00', '#008060', '#c0609a', '#8a6500', '#6639ba', '#000000'];
const INK = '#1b1f24';
const seriesColor = (place) => SERIES[place % SERIES.length];
const UNLABELED = 255;
const $ = (id) => document.getElementById(id);

// Undefined is said, and never drawn as zero.
const number = (value, digits = 3) =>
  value === null || value === undefined ? '–' : value.toFixed(digits);
const percent = (value) =>
  value === null || value === undefined ? '–' : `${(100 * value).toFixed(1)} %`;


// A rate that is small is not none.
const score = (value) => (value > 0 && value < 0.0005 ? '< 0.001' : number(value));

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch(color) {
  const made = element('span', { className: 'swatch' });
  made.style.background = color;
  made.setAttribute('aria-hidden', 'true');
  return made;
}

function fill(select, options) {
  select.replaceChildren(
    ...options.map(([value, text]) => element('option', { value, textContent: text })),
  );
  select.closest('label').hidden = options.length < 2;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return '';
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

function rgbOf(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

// Colours of every value that a label map can hold, as [red, green, blue, alpha]. What a class
// costs is each run's own.
const paletteOf = (colorOf) => Array.from({ length: 256 }, (_, id) =>
  (data.classes[id] ? colorOf(id) : null) ?? [0, 0, 0, 0]);
const CLASS_PALETTE = paletteOf((id) => [...rgbOf(data.classes[id].color), 150]);
const COST_PALETTES = runs.map(({ costs }) => paletteOf((id) =>
  (costs[id] === data.unknownCost ? null : [...data.costColors[costs[id]], 125])));
const costText = (cost) => (cost === data.unknownCost ? 'unknown' : String(cost));

// Plotly reads a text as markup.
const plain = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const MAX_LETTERS = 34;
const LETTER_PX = 7.5;
const LEGEND_SYMBOL_PX = 46;
const LEGEND_ROW_PX = 20;

// Of a long text, both ends.
function shortened(text) {
  const half = MAX_LETTERS / 2;
  return text.length <= MAX_LETTERS ? text : `${text.slice(0, half - 1)}…${text.slice(-half)}`;
}

const legendText = (text) => plain(shortened(text));

// The legend stands above its chart, which is as much higher.
function drawChart(id, traces, extra) {
  let [rows, left] = [0, 0];
  for (const { name, showlegend } of traces.length > 1 || extra.showlegend ? traces : []) {
    if (showlegend === false) continue;
    const width = LEGEND_SYMBOL_PX + LETTER_PX * name.length;
    if (width > left) [rows, left] = [rows + 1, $(id).clientWidth - 80];
    left -= width;
  }
  $(id).style.height = `calc(var(--chart) + ${rows * LEGEND_ROW_PX}px)`;
  // Plotly puts groups, but not traces, as close together as their names let it.
  const grouped = traces.map((trace) => ({ legendgroup: trace.name, ...trace }));
  return Plotly.react(id, grouped, layout(extra), PLOT);
}

// Where fingers scroll the page, they must not draw a frame to zoom into.
const isTouched = window.matchMedia('(pointer: coarse)').matches;
const PLOT = {
  responsive: true,
  displaylogo: false,
  scrollZoom: false,
  displayModeBar: isTouched ? false : 'hover',
};

function layout(extra) {
  return {
    margin: { l: 56, r: 12, t: 8, b: 44 },
    font: { family: 'system-ui, sans-serif', size: 13, color: INK },
    paper_bgcolor: '#ffffff',
    plot_bgcolor: '#ffffff',
    hovermode: 'closest',
    dragmode: isTouched ? false : 'zoom',
    legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0, tracegroupgap: 0 },
    ...extra,
  };
}

function axis(title, extra = {}) {
  return { title: { text: title }, gridcolor: '#e7ebef', zerolinecolor: '#d0d7de', ...extra };
}

// Every frame that a run has, in time; places are its indices in the frames of the runs.
const frames = (() => {
  const found = new Map();
  runs.forEach(({ frames: mine }, run) => mine.path.forEach((path, index) => {
    if (!found.has(path)) {
      const camera = mine.cameras[mine.camera[index]];
      found.set(path, { path, camera, seconds: mine.seconds[index], stamp: mine.stamp[index], places: [] });
    }
    found.get(path).places[run] = index;
  }));
  return [...found.values()].sort((one, other) => one.seconds - other.seconds);
})();
const isTimed = runs.some((run) => run.frames.isTimed);
const placeOf = new Map(frames.map((frame, place) => [frame.path, place]));
const valueOf = (frame, run, column) => runs[run].frames[column][frame.places[run]];
const metricOf = (frame, run, name) =>
  runs[run].frames.metrics[name]?.[frame.places[run]] ?? null;
const nameOf = (run, text) => (isComparison ? `${runs[run].name}: ${text}` : text);
