import "@h5web/app/styles.css";
import { App, H5GroveProvider } from "@h5web/app";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const asked = new URLSearchParams(window.location.search);
const file = asked.get("file") ?? "";
document.title = `${file} – h5web`;
createRoot(document.getElementById("root")).render(
  createElement(
    H5GroveProvider,
    { url: new URL("./api", window.location.href).href, filepath: file },
    createElement(App, { initialPath: asked.get("path") ?? "/", disableDarkMode: false, propagateErrors: false }),
  ),
);
