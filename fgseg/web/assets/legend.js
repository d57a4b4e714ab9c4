// The legend: one row per prompt with its colour, its share of the image and, if a point or box is marked, its score.
// A prompt's button shows its mask alone; further buttons hide its mask, or show its heatmap.
// Event sent to Python: 'layered' {layer}; -1 shows masks, another number the heatmap of the prompt with this index.
// Event for masks.js: 'fgseg:hidden' [index of class].
let hidden = new Set();
let listed = '';

const make = (tag, name, text = '') => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text; // never HTML: a prompt may hold markup
  return made;
};

function button(name, isPressed, parts, action) {
  const made = make('button', name);
  made.type = 'button';
  made.setAttribute('aria-pressed', String(isPressed));
  made.append(...parts);
  made.addEventListener('click', action);
  return made;
}

// --- which masks are shown

function hide(indices) {
  hidden = new Set(indices);
  document.dispatchEvent(new CustomEvent('fgseg:hidden', { detail: [...hidden] }));
  if (props.value.layer >= 0) trigger('layered', { layer: -1 });
  show();
}

const indices = () => props.value.rows.map((_, index) => index);
const others = (index) => indices().filter((other) => other !== index);
const shown = () => indices().filter((index) => !hidden.has(index));
const isAlone = (index) => indices().length > 1 && shown().length === 1 && shown()[0] === index;
const toggled = (index) => (hidden.has(index) ? [...hidden].filter((other) => other !== index) : [...hidden, index]);

// --- the rows

function scoreOf(row) {
  if (row.mean === null) return [];
  const bar = make('span', 'fg-score');
  const fill = make('i', '');
  fill.style.width = `${100 * row.mean}%`;
  fill.style.background = row.color;
  bar.append(fill);
  const text = props.value.isPoint ? row.mean.toFixed(2) : `${row.mean.toFixed(2)} (peak ${row.peak.toFixed(2)})`;
  return [bar, make('span', 'fg-number', text)];
}

function entry(row, index) {
  const swatch = make('i', 'fg-swatch');
  swatch.style.background = row.color;
  const parts = [swatch, make('span', 'fg-word', row.name), ...scoreOf(row), make('span', 'fg-share', row.share)];
  const { layer } = props.value;
  const isLayer = layer === index;
  const alone = button('fg-layer', layer < 0 && isAlone(index), parts, () => hide(isAlone(index) && layer < 0 ? [] : others(index)));
  alone.title = `Show the mask of ${row.name} alone`;
  const hiding = button('fg-small-button fg-hide', hidden.has(index), ['Hide'], () => hide(toggled(index)));
  hiding.setAttribute('aria-label', `Hide the mask of ${row.name}`);
  const heat = button('fg-small-button fg-heat-button', isLayer, ['Heatmap'], () => trigger('layered', { layer: isLayer ? -1 : index }));
  heat.setAttribute('aria-label', `Heatmap of ${row.name}`);
  const line = make('div', 'fg-row');
  line.append(alone, hiding, heat);
  return line;
}

function heading({ where, layer, ramp }) {
  const title = where ? `Presence ${where} (0 absent, 0.5 a tie with the background, 1 certain)` : 'A click on a prompt shows its mask alone';
  const made = make('p', 'fg-small', title);
  made.setAttribute('role', 'status');
  if (layer >= 0) {
    const bar = make('i', 'fg-ramp');
    bar.style.background = `linear-gradient(to right, ${ramp.join(', ')})`;
    made.append(' · heatmap: 0', bar, '1');
  }
  return made;
}

function cutout({ key, rows }) {
  const link = make('a', 'fg-link', `Cut-out of ${shown().length === 1 ? rows[shown()[0]].name : 'what is shown'} (PNG)`);
  link.href = `session/${key}/cutout.png?classes=${shown().join(',')}`;
  link.download = 'cutout.png';
  link.hidden = !shown().length;
  return link;
}

function show() {
  const value = props.value;
  const list = element.querySelector('.fg-legend');
  const focusable = () => [...list.querySelectorAll('button, a')];
  const focused = focusable().indexOf(document.activeElement);
  list.replaceChildren();
  list.hidden = !value?.rows?.length;
  if (list.hidden) return;
  const all = button('fg-layer', value.layer < 0 && !hidden.size, [make('span', 'fg-word', 'All masks')], () => hide([]));
  const rows = make('div', 'fg-rows');
  rows.append(...value.rows.map(entry));
  list.append(heading(value), rows, all, cutout(value));
  focusable()[focused]?.focus();
}

// Other prompts or another image: all masks are shown again.
function update() {
  const names = JSON.stringify([props.value?.key, props.value?.rows?.map((row) => row.name)]);
  if (names !== listed) document.dispatchEvent(new CustomEvent('fgseg:hidden', { detail: [...(hidden = new Set())] }));
  listed = names;
  show();
}
watch('value', update);
update();
