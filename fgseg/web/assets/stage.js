// The stage: uploads an image (dropped, pasted or chosen), shows it, and reports the point or box that the user marks.
// Events sent to Python: 'uploaded' {secret} or {error}; 'marked' {box: [left, top, right, bottom] in fractions, or null}.
// Event for masks.js: 'fgseg:point' {x, y in fractions, left, top in pixels of the window}, or null where nothing is pointed at.
const find = (name) => element.querySelector(name);
const [viewport, canvas, picture] = ['.fg-viewport', '.fg-canvas', '.fg-picture'].map(find);
const [frame, cross, move] = ['.fg-frame', '.fg-cross', '.fg-move'].map(find);
const file = find('.fg-file');
const CLICK = 4; // pixels that a pointer may move during a click
const STEP = 0.02; // fraction of the image that an arrow key moves
const ZOOM_STEP = 1.5;
const MAX_ZOOM = 12;
let shown = null; // key of the image that is shown
let mark = { left: 0.5, top: 0.5, right: 0.5, bottom: 0.5 };
let start = null; // where a click or box began
let held = null; // where a move of the zoomed image began
let zoom = 1;

find('.fg-limits').textContent = props.limits;

// --- uploading an image

async function upload(blob) {
  if (!blob) return;
  if (blob.size > props.upload_bytes) {
    trigger('uploaded', { error: `${blob.name}: this file has ${(blob.size / 1e6).toFixed(1)} MB. ${props.limits}` });
    return;
  }
  element.classList.add('fg-busy');
  try {
    const answer = await fetch('session', {
      method: 'POST',
      body: blob,
      headers: { 'Content-Type': 'application/octet-stream', 'X-File-Name': encodeURIComponent(blob.name || 'image.png') },
    });
    const { secret, error } = await answer.json();
    trigger('uploaded', secret ? { secret } : { error });
  } catch {
    trigger('uploaded', { error: `${blob.name}: could not be uploaded. Is the server still running?` });
  } finally {
    element.classList.remove('fg-busy');
  }
}

element.querySelectorAll('.fg-choose').forEach((button) => button.addEventListener('click', () => file.click()));
file.addEventListener('change', () => {
  upload(file.files[0]);
  file.value = ''; // so that choosing the same file again is a change
});

const imageOf = (items) => [...(items || [])].find((item) => item.type.startsWith('image/'));
document.addEventListener('paste', (event) => {
  const image = imageOf(event.clipboardData?.files);
  if (image) {
    event.preventDefault();
    upload(image);
  }
});

const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
const dropping = (is) => (find('.fg-drop').hidden = !is);
document.addEventListener('dragover', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dropping(true);
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) dropping(false);
});
document.addEventListener('drop', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dropping(false);
  upload(event.dataTransfer.files[0]);
});

// --- showing an image

function show() {
  const value = props.value;
  if (!value?.src || shown === value.key) return;
  shown = value.key;
  picture.src = value.src;
  viewport.style.setProperty('--ratio', value.width / value.height);
  find('.fg-name').textContent = `${value.name} · ${value.width} × ${value.height}`;
  find('.fg-welcome').hidden = true;
  for (const name of ['.fg-viewport', '.fg-bar', '.fg-how']) find(name).hidden = false;
  clear();
  zoomTo(1);
  const box = element.getBoundingClientRect();
  // The examples are far below the image, on a narrow screen by several screens.
  if (box.top < 0 || box.top > innerHeight / 2) find('.fg-stage').scrollIntoView({ block: 'start' });
}

// --- zooming and moving

const middle = () => {
  const box = viewport.getBoundingClientRect();
  return { left: box.left + box.width / 2, top: box.top + box.height / 2 };
};

// The point of the image at `fixed`, in pixels of the window, stays where it is. The viewport scrolls what is outside it.
function zoomTo(next, fixed = middle()) {
  const before = canvas.getBoundingClientRect();
  const [x, y] = [(fixed.left - before.left) / before.width, (fixed.top - before.top) / before.height];
  zoom = Math.min(MAX_ZOOM, Math.max(1, next));
  canvas.style.width = `${100 * zoom}%`;
  viewport.classList.toggle('fg-zoomed', zoom > 1);
  const after = canvas.getBoundingClientRect();
  viewport.scrollLeft += after.left + x * after.width - fixed.left;
  viewport.scrollTop += after.top + y * after.height - fixed.top;
  find('.fg-zoom-whole').textContent = `${zoom.toFixed(1).replace('.0', '')}×`;
  move.disabled = zoom === 1;
  if (zoom === 1) moving(false);
}

function moving(is) {
  move.setAttribute('aria-pressed', String(is));
  viewport.classList.toggle('fg-moving', is);
}

find('.fg-zoom-in').addEventListener('click', () => zoomTo(zoom * ZOOM_STEP));
find('.fg-zoom-out').addEventListener('click', () => zoomTo(zoom / ZOOM_STEP));
find('.fg-zoom-whole').addEventListener('click', () => zoomTo(1));
move.addEventListener('click', () => moving(move.getAttribute('aria-pressed') === 'false'));
canvas.addEventListener(
  'wheel',
  (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls; a pinch on a touchpad has ctrlKey
    event.preventDefault();
    zoomTo(zoom * 2 ** (-event.deltaY / 200), { left: event.clientX, top: event.clientY });
  },
  { passive: false },
);

// --- marking a point or a box

const clamp = (fraction) => Math.min(1, Math.max(0, fraction));
const percent = (fraction) => `${(100 * fraction).toFixed(3)}%`;

function where(event) {
  const box = picture.getBoundingClientRect();
  return { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
}

const point = (detail) => document.dispatchEvent(new CustomEvent('fgseg:point', { detail }));
const pointAt = (event) => point({ ...where(event), left: event.clientX, top: event.clientY });

function draw() {
  const isPoint = mark.left === mark.right && mark.top === mark.bottom;
  frame.hidden = isPoint;
  cross.hidden = !isPoint;
  const style = isPoint ? cross.style : frame.style;
  [style.left, style.top] = [percent(mark.left), percent(mark.top)];
  if (!isPoint) [style.width, style.height] = [percent(mark.right - mark.left), percent(mark.bottom - mark.top)];
}

function clear() {
  frame.hidden = cross.hidden = true;
  mark = { left: 0.5, top: 0.5, right: 0.5, bottom: 0.5 };
  point(null);
}

function between(first, second) {
  const [left, right] = [first.x, second.x].sort((a, b) => a - b);
  const [top, bottom] = [first.y, second.y].sort((a, b) => a - b);
  return { left, top, right, bottom };
}

const send = () => trigger('marked', { box: [mark.left, mark.top, mark.right, mark.bottom] });
const isClick = (event) => Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < CLICK;

canvas.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  if (viewport.classList.contains('fg-moving')) {
    held = { x: event.clientX + viewport.scrollLeft, y: event.clientY + viewport.scrollTop };
  } else {
    start = { ...where(event), clientX: event.clientX, clientY: event.clientY };
  }
});
canvas.addEventListener('pointermove', (event) => {
  pointAt(event);
  if (held) {
    viewport.scrollLeft = held.x - event.clientX;
    viewport.scrollTop = held.y - event.clientY;
  }
  if (!start || isClick(event)) return;
  mark = between(start, where(event));
  draw();
});
canvas.addEventListener('pointerup', (event) => {
  held = null;
  if (!start) return;
  mark = isClick(event) ? between(start, start) : between(start, where(event));
  start = null;
  draw();
  pointAt(event);
  send();
});
canvas.addEventListener('pointercancel', () => (start = held = null));
canvas.addEventListener('pointerleave', (event) => {
  if (event.pointerType === 'mouse') point(null); // a finger has just left where it pointed
});
document.addEventListener(
  'scroll',
  () => {
    if (!canvas.matches(':focus-visible')) point(null); // the arrow keys scroll the zoomed image themselves
  },
  { capture: true, passive: true },
);
canvas.addEventListener('blur', () => point(null));

const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

function moveMark([x, y], keepsCorner) {
  mark.right = clamp(mark.right + x / zoom);
  mark.bottom = clamp(mark.bottom + y / zoom);
  if (keepsCorner) {
    mark.right = Math.max(mark.right, mark.left);
    mark.bottom = Math.max(mark.bottom, mark.top);
  } else {
    [mark.left, mark.top] = [mark.right, mark.bottom];
  }
  draw();
  const shape = cross.hidden ? frame : cross;
  shape.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  const box = shape.getBoundingClientRect();
  point({ x: mark.right, y: mark.bottom, left: box.right, top: box.bottom });
}

const KEYS = {
  Escape: () => {
    clear();
    trigger('marked', { box: null });
  },
  Enter: () => {
    draw();
    send();
  },
  '+': () => zoomTo(zoom * ZOOM_STEP),
  '-': () => zoomTo(zoom / ZOOM_STEP),
  0: () => zoomTo(1),
};
[KEYS[' '], KEYS['=']] = [KEYS.Enter, KEYS['+']]; // + is Shift and = on many keyboards
canvas.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return; // shortcuts of the browser
  if (MOVES[event.key]) moveMark(MOVES[event.key], event.shiftKey);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
});

watch('value', show);
show();
