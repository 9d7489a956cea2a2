/* jupyterquiz's answers are radio buttons: arrow keys would answer, a screen reader would hear no verdict, and in a question with several
   right answers a wrong one would take the right ones back. Here each is a button, and the verdict a status that is read out. */
document.addEventListener("DOMContentLoaded", () => {
  for (const quiz of document.querySelectorAll(".Quiz:has(.MCButton)")) {
    const question = quiz.querySelector("[id^=quizQn]");
    const verdict = quiz.querySelector(".Feedback");
    const right = quiz.querySelectorAll(".MCButton[data-correct=true]").length;
    quiz.setAttribute("role", "group");
    quiz.setAttribute("aria-labelledby", question.id);
    verdict.setAttribute("role", "status");

    for (const label of quiz.querySelectorAll(".MCButton")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "MCButton";
      button.append(...[...label.children].filter((child) => child.tagName !== "INPUT"));
      button.addEventListener("click", () => {
        const correct = label.dataset.correct === "true";
        for (const other of quiz.querySelectorAll(right > 1 ? ".incorrectButton" : ".MCButton")) {
          other.classList.remove("correctButton", "incorrectButton");
        }
        button.classList.add(correct ? "correctButton" : "incorrectButton");
        const found = quiz.querySelectorAll(".correctButton").length;
        verdict.className = `Feedback ${correct ? "correct" : "incorrect"}`;
        verdict.innerHTML = label.dataset.feedback + (right > 1 ? ` (${found} of ${right} found)` : "");
      });
      label.replaceWith(button);
    }
  }
});

/* Outputs that are wider than a phone scroll: they can be reached by Tab. The theme does so for code. */
const reachable = () => {
  for (const output of document.querySelectorAll("div.cell_output, span.math, div.math")) {
    if (output.scrollWidth > output.clientWidth) output.tabIndex = 0;
    else output.removeAttribute("tabindex");
  }
};
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);

/* The side bar's title and search field stand outside all landmarks. */
document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.getElementById("pst-primary-sidebar");
  sidebar.setAttribute("role", "navigation");
  sidebar.setAttribute("aria-label", "Book");
});
