// Pixels of frames. Each comes as a script, from this page or from a file beside it, that calls
// showFrame; the run that it belongs to stands in the script's element.
const loaded = new Map();
const MAX_LOADED = 60;

const keyOf = (run, path) => `${run} ${path}`;

window.showFrame = (path, content) => {
  const run = document.currentScript.dataset.run;
  const key = keyOf(run, path);
  const isEmbedded = !document.currentScript.src;
  loaded.set(key, { ...content, isEmbedded });
  if (isEmbedded) return;
  for (const [old, entry] of loaded) {
    if (loaded.size <= MAX_LOADED) break;
    if (!entry.isEmbedded && old !== key) loaded.delete(old);
  }
};

// Resolves to null where there is no such file. Both sides may ask for one at once.
const loading = new Map();

function loadFrame(run, path) {
  const key = keyOf(run, path);
  if (loaded.has(key)) return Promise.resolve(loaded.get(key));
  if (!loading.has(key)) loading.set(key, loadScript(run, path, key));
  return loading.get(key);
}

function loadScript(run, path, key) {
  return new Promise((resolve) => {
    const script = element('script', { src: `${runs[run].base}/${path}.js` });
    script.dataset.run = run;
    const end = () => {
      script.remove();
      loading.delete(key);
      resolve(loaded.get(key) ?? null);
    };
    script.onload = end;
    script.onerror = end;
    document.head.append(script);
  });
}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Returns { frame } with its pixels, or { reason } why there are none.
async function decodeFrame(run, { path, places }) {
  const mine = runs[run].frames;
  const index = places[run];
  if (index === undefined) return { reason: 'This run has no such frame.' };
  if (!mine.hasPicture[index]) {
    const problem = mine.problem[index];
    return { reason: problem ? `No labels: ${problem}` : 'No picture was kept of this frame.' };
  }
  const content = await loadFrame(run, path);
  if (content === null) {
    const file = `${runs[run].base}/${path}.js`;
    return { reason: `Not found: ${file} must lie beside this page.` };
  }
  content.decoded ??= (async () => {
    const picture = new Image();
    picture.src = content.picture;
    await picture.decode();
    const labels = await inflate(content.labels);
    const truth = content.truth ? await inflate(content.truth) : null;
    return { picture, labels, truth, width: content.width, height: content.height };
  })();
  return { frame: await content.decoded };
}

// Draws one of 'picture', 'truth', 'traversability', 'classes' and 'errors'.
function drawLayer(canvas, frame, layer, run) {
  canvas.width = frame.width;
  canvas.height = frame.height;
  const context = canvas.getContext('2d');
  context.drawImage(frame.picture, 0, 0, frame.width, frame.height);
  if (layer === 'picture') return;
  const tint = new ImageData(frame.width, frame.height);
  const ids = layer === 'truth' ? frame.truth : frame.labels;
  const palette = layer === 'traversability' ? COST_PALETTES[run] : CLASS_PALETTE;
  for (let place = 0; place < ids.length; place += 1) {
    let color = palette[ids[place]];
    if (layer === 'errors') {
      const right = frame.truth[place];
      if (right === UNLABELED) color = [0, 0, 0, 190];
      else color = ids[place] === right ? [255, 255, 255, 110] : [214, 0, 60, 190];
    }
    tint.data.set(color, 4 * place);
  }
  const layerCanvas = element('canvas', { width: frame.width, height: frame.height });
  layerCanvas.getContext('2d').putImageData(tint, 0, 0);
  context.drawImage(layerCanvas, 0, 0);
}
