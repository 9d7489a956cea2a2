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
