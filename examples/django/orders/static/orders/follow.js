// Asks the server how far a job is, until nothing more will happen by itself.

const EVERY = 300; // milliseconds

async function follow(element) {
  while (element.dataset.done !== "yes") {
    await new Promise((resume) => setTimeout(resume, EVERY));
    try {
      const answer = await fetch(element.dataset.follow);
      if (answer.ok) show(element, await answer.json());
    } catch {
      // the server restarts, or the page is being left: the next look tells
    }
  }
}

function show(element, state) {
  element.querySelector("[data-text]").textContent = state.text;
  const bar = element.querySelector("progress");
  if (bar) bar.setAttribute("value", state.fraction);
  for (const part of element.querySelectorAll("[data-when-ready]")) part.hidden = !state.ready;
  for (const part of element.querySelectorAll("[data-until-done]")) part.hidden = state.done;
  element.dataset.done = state.done ? "yes" : "no";
}

document.querySelectorAll("[data-follow]").forEach(follow);
