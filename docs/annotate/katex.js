// Formulas on standard input, as JSON: [[tex, display], ...]. On standard output as JSON, for each,
// its HTML with MathML, or an error.
const katex = require("katex");
let input = "";
process.stdin.on("data", (chunk) => (input += chunk));
process.stdin.on("end", () => {
  const rendered = JSON.parse(input).map(([tex, displayMode]) => {
    try {
      const options = { displayMode, output: "htmlAndMathml", throwOnError: true, strict: "error" };
      return { html: katex.renderToString(tex, options) };
    } catch (error) {
      return { error: String(error.message) };
    }
  });
  process.stdout.write(JSON.stringify(rendered));
});
