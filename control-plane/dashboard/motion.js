// What flows along the lines of the map. It moves in few steps a second, all lines by one value: drawing it anew for each
// frame of the screen, as an animation of the style would, takes four times as much of the processor.

/** How far it moves before it looks as in the beginning: the length of its dashes, in the style sheet. */
const LENGTH = 22.1;
const STEPS = 16;
const STEP_MILLIS = 100;

const still = matchMedia("(prefers-reduced-motion: reduce)");
let timer = null;
let step = 0;

/** Goes on until nobody can see it. */
export function flow() {
  timer ??= setInterval(next, STEP_MILLIS);
}

function next() {
  const flows = document.querySelector(".graph .flows");
  if (flows === null || document.hidden || still.matches) {
    clearInterval(timer);
    timer = null;
    return;
  }
  if (flows.firstChild === null) return;
  step = (step + 1) % STEPS;
  flows.style.strokeDashoffset = (LENGTH * (1 - step / STEPS)).toFixed(2);
}
