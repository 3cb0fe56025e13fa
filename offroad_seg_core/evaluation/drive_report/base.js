const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const isComparison = runs.length > 1;
const SERIES = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];
const UNLABELED = 255;
const $ = (id) => document.getElementById(id);

// Undefined is said, and never drawn as zero.
const number = (value, digits = 3) =>
  value === null || value === undefined ? '–' : value.toFixed(digits);
const percent = (value) =>
  value === null || value === undefined ? '–' : `${(100 * value).toFixed(1)} %`;

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

// Colours of every value that a label map can hold, as [red, green, blue, alpha].
const PALETTES = { classes: [], traversability: [] };
for (let id = 0; id < 256; id += 1) {
  const known = data.classes[id];
  const cost = known ? known.cost : data.unknownCost;
  PALETTES.classes.push(known ? [...rgbOf(known.color), 150] : [0, 0, 0, 0]);
  PALETTES.traversability.push(
    cost === data.unknownCost ? [0, 0, 0, 0] : [...data.costColors[cost], 125],
  );
}

const PLOT = { responsive: true, displaylogo: false, scrollZoom: false };

function layout(extra) {
  return {
    margin: { l: 56, r: 12, t: 8, b: 44 },
    font: { family: 'system-ui, sans-serif', size: 13, color: '#1b1f24' },
    paper_bgcolor: '#ffffff',
    plot_bgcolor: '#ffffff',
    hovermode: 'closest',
    legend: { orientation: 'h', y: 1.12, x: 0 },
    ...extra,
  };
}

function axis(title, extra = {}) {
  return { title: { text: title }, gridcolor: '#e7ebef', zerolinecolor: '#d0d7de', ...extra };
}

// Index of each frame of a run in the frames of another, by camera and name.
const frameIndex = runs.map((run) => new Map(run.frames.path.map((path, index) => [path, index])));
