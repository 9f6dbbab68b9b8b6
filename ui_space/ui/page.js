() => {
  // Ctrl+Enter submits the tab in sight.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    const seen = [...document.querySelectorAll("button.submit-job")].find((button) => button.offsetParent !== null);
    if (!seen || seen.disabled) return;
    event.preventDefault();
    seen.click();
  });
}
