// The region table. Event for masks.js: 'fgseg:region' {index of class, box in pixels of the image}, or null.
const buttons = () => [...element.querySelectorAll('.fg-region')];

element.addEventListener('click', (event) => {
  const button = event.target.closest('tr')?.querySelector('.fg-region');
  if (!button) return;
  const isPressed = button.getAttribute('aria-pressed') === 'true';
  buttons().forEach((other) => other.setAttribute('aria-pressed', 'false'));
  button.setAttribute('aria-pressed', String(!isPressed));
  const region = { index: Number(button.dataset.class), box: button.dataset.box.split(',').map(Number) };
  document.dispatchEvent(new CustomEvent('fgseg:region', { detail: isPressed ? null : region }));
});

// The Tab key stops once in the table; arrow keys go on inside it.
element.addEventListener('focusin', ({ target }) => {
  if (target.matches('.fg-region')) buttons().forEach((button) => (button.tabIndex = button === target ? 0 : -1));
});
element.addEventListener('keydown', (event) => {
  const next = buttons()[buttons().indexOf(event.target) + { ArrowUp: -1, ArrowDown: 1 }[event.key]];
  if (!next || !event.target.matches('.fg-region')) return;
  event.preventDefault();
  next.focus();
});
