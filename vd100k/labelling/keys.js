// Keys of the labelling page. A key is ignored until the row that it is about is shown.
const labelling = {
  keys: {
    r: "key-right", ArrowRight: "key-right", w: "key-wrong", s: "key-skip", u: "key-back", ArrowLeft: "key-back",
  },
  sent: null,
  sentAt: 0,
  patience: 5000, // milliseconds; after that, the answer to a label is lost and the key may be pressed again

  // The row that is shown, and the text in the field; no row if a label of this one is on its way.
  seen() {
    const shown = document.querySelector("[data-shown]")?.dataset.shown ?? "";
    const edited = document.querySelector("#corrected textarea").value;
    const waiting = shown !== "" && this.sent === shown && Date.now() - this.sentAt < this.patience;
    if (!waiting) this.sentAt = Date.now();
    this.sent = shown;
    return [waiting ? "waiting" : shown, edited];
  },

  press(id) {
    document.getElementById(id)?.click();
  },

  typed(event) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.target.blur();
      this.press("key-wrong");
    }
  },

  pressed(event) {
    if (event.target.closest?.("textarea, input")) return this.typed(event);
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const id = this.keys[event.key];
    if (!id && event.key !== "e") return;
    event.preventDefault();
    if (id) this.press(id);
    else document.querySelector("#corrected textarea").focus();
  },
};

document.addEventListener("keydown", (event) => labelling.pressed(event));
document.addEventListener("click", (event) => {
  if (event.target.matches?.("#row img")) event.target.classList.toggle("enlarged");
});
