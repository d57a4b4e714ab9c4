// The words of a small model. A click adds a word to the prompts, on a line of its own.
function add(word) {
  const field = document.querySelector('#fg-prompts textarea');
  const lines = field.value.split('\n').map((line) => line.trim()).filter(Boolean);
  if (!lines.includes(word)) lines.push(word);
  field.value = lines.join('\n');
  field.dispatchEvent(new Event('input', { bubbles: true })); // Gradio reads the field when it is written to
}

// The Tab key stops once per group; arrow keys go on inside it.
element.querySelectorAll('.fg-group').forEach((group) => {
  const chips = [...group.querySelectorAll('.fg-chip')];
  const stop = (at) => chips.forEach((chip, index) => (chip.tabIndex = index === at ? 0 : -1));
  chips.forEach((chip, index) => {
    chip.addEventListener('click', () => add(chip.textContent));
    chip.addEventListener('focus', () => stop(index));
    chip.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      chips[index + step]?.focus();
    });
  });
  stop(0);
});
