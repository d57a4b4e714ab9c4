// The stage: uploads an image (dropped, pasted or chosen), shows it, and reports the point or box that the user marks.
// Events sent to Python: 'uploaded' {secret} or {error}; 'marked' {box: [left, top, right, bottom] in fractions, or null}.
const find = (name) => element.querySelector(name);
const [canvas, picture, frame, cross] = ['.fg-canvas', '.fg-picture', '.fg-frame', '.fg-cross'].map(find);
const file = find('.fg-file');
const CLICK = 4; // pixels that a pointer may move during a click
const STEP = 0.02; // fraction of the image that an arrow key moves
let shown = null; // key of the image that is shown
let mark = { left: 0.5, top: 0.5, right: 0.5, bottom: 0.5 };
let start = null;

find('.fg-limits').textContent = props.limits;

// --- uploading an image

async function upload(blob) {
  if (!blob) return;
  if (blob.size > props.upload_bytes) {
    trigger('uploaded', { error: `This file has ${(blob.size / 1e6).toFixed(1)} MB. ${props.limits}` });
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
    trigger('uploaded', { error: 'The image could not be uploaded. Is the server still running?' });
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
  if (!value?.src) return;
  picture.src = value.src;
  canvas.style.setProperty('--ratio', value.width / value.height);
  canvas.setAttribute('aria-label', value.alt);
  find('.fg-name').textContent = `${value.name} · ${value.width} × ${value.height}`;
  find('.fg-welcome').hidden = true;
  for (const name of ['.fg-canvas', '.fg-bar', '.fg-how']) find(name).hidden = false;
  if (shown !== value.key) clear();
  shown = value.key;
  const box = element.getBoundingClientRect();
  // On a narrow screen the button is far below the image.
  if (box.bottom < 80) element.scrollIntoView({ block: 'start' });
}
watch('value', show);
show();

// --- marking a point or a box

const clamp = (fraction) => Math.min(1, Math.max(0, fraction));
const percent = (fraction) => `${(100 * fraction).toFixed(3)}%`;

function where(event) {
  const box = picture.getBoundingClientRect();
  return { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
}

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
  start = { ...where(event), clientX: event.clientX, clientY: event.clientY };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (!start || isClick(event)) return;
  mark = between(start, where(event));
  draw();
});
canvas.addEventListener('pointerup', (event) => {
  if (!start) return;
  mark = isClick(event) ? between(start, start) : between(start, where(event));
  start = null;
  draw();
  send();
});
canvas.addEventListener('pointercancel', () => (start = null));

const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
canvas.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') {
    clear();
    trigger('marked', { box: null });
  } else if (event.key === 'Enter' || event.key === ' ') {
    draw();
    send();
  } else if (MOVES[event.key]) {
    const [x, y] = MOVES[event.key];
    mark.right = clamp(mark.right + x);
    mark.bottom = clamp(mark.bottom + y);
    if (event.shiftKey) {
      mark.right = Math.max(mark.right, mark.left);
      mark.bottom = Math.max(mark.bottom, mark.top);
    } else {
      [mark.left, mark.top] = [mark.right, mark.bottom];
    }
    draw();
  } else {
    return;
  }
  event.preventDefault();
});
