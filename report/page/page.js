"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id)?.textContent || "null");
  const pictures = read("pictures") || [];
  const figures = read("figures") || {};
  const address = (place) => "data:image/webp;base64," + pictures[place];
  const root = document.documentElement;

  // Pictures: set when they come near the screen, each from the one copy in the page.
  const near = (element, action) => {
    if (!("IntersectionObserver" in window)) return action(element);
    const watcher = new IntersectionObserver((found) => {
      for (const each of found) {
        if (each.isIntersecting) { watcher.unobserve(each.target); action(each.target); }
      }
    }, { rootMargin: "400px" });
    watcher.observe(element);
    return undefined;
  };
  const show = (image) => { if (!image.src) image.src = address(image.dataset.p); };
  for (const image of document.querySelectorAll("img[data-p]")) near(image, show);
  // The others, also of what is folded, a few at a time once the page stands.
  const idle = window.requestIdleCallback || ((action) => setTimeout(action, 50));
  const rest = () => {
    const next = [...document.querySelectorAll("img[data-p]:not([src])")].slice(0, 40);
    next.forEach(show);
    if (next.length) idle(rest);
  };
  window.addEventListener("load", () => idle(rest));

  // plotly: run when the first figure comes near the screen.
  const library = () => {
    if (!window.Plotly) {
      const script = document.createElement("script");
      script.textContent = document.getElementById("plotly").textContent;
      document.head.append(script);
    }
    return window.Plotly;
  };
  const settings = { displaylogo: false, responsive: true, scrollZoom: false,
    modeBarButtonsToRemove: ["toImage", "resetCameraLastSave3d", "hoverClosest3d", "orbitRotation", "tableRotation"] };
  const ink = () => ({ color: getComputedStyle(root).getPropertyValue("--ink") });

  // The colours of lines in figures, in their brighter form where the page is dark.
  const named = { "#0072b2": "--right", "#d55e00": "--wrong", "#009e73": "--third" };
  const tinted = (value) => {
    if (typeof value === "string") {
      return named[value] ? getComputedStyle(root).getPropertyValue(named[value]).trim() : value;
    }
    if (Array.isArray(value) || !value || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, tinted(each)]));
  };

  const curves = document.getElementById("curves");
  const drawCurves = () => {
    const { data, layout } = figures.curves;
    const how = { ...settings, displayModeBar: false };
    library().react(curves, data.map(tinted), { ...layout, font: ink() }, how);
  };
  if (curves && figures.curves) near(curves, drawCurves);

  const scene = document.getElementById("space");
  let redraw = () => {};
  if (scene && figures.models) viewer(scene, figures.models);

  function viewer(place, models) {
    const choice = document.getElementById("model");
    const strip = document.getElementById("cameras");
    let shown = models[0];
    let ready = false;
    const box = document.createElement("div");
    box.id = "hover";
    box.hidden = true;
    document.body.append(box);

    const highlight = (index) => {
      const at = (axis) => [[index < 0 ? null : shown.centers[index][axis]]];
      if (ready) window.Plotly.restyle(place, { x: at(0), y: at(1), z: at(2) }, [3]);
    };
    const draw = () => {
      shown = models[Number(choice.value)];
      box.hidden = true;
      const { data, layout } = shown.figure;
      const again = ready ? library().react : library().newPlot;
      const fresh = { ...layout, uirevision: choice.value };
      again(place, data.map(tinted), fresh, { ...settings, scrollZoom: true }).then(() => {
        if (!ready) listen();
        ready = true;
      });
      strip.replaceChildren(...shown.photographs.map(([picture, name], index) => {
        const button = document.createElement("button");
        button.type = "button";
        if (picture === null) {
          button.textContent = name;
        } else {
          const image = document.createElement("img");
          image.src = address(picture);
          image.alt = name;
          button.append(image);
        }
        button.title = name;
        for (const kind of ["focus", "pointerenter"]) button.addEventListener(kind, () => highlight(index));
        for (const kind of ["blur", "pointerleave"]) button.addEventListener(kind, () => highlight(-1));
        return button;
      }));
    };
    const listen = () => {
      place.on("plotly_hover", (event) => {
        const point = event.points[0];
        if (point.curveNumber !== 2) return;
        const [picture, name] = shown.photographs[point.pointNumber];
        const image = document.createElement("img");
        image.alt = "";
        if (picture !== null) image.src = address(picture);
        box.replaceChildren(...(picture === null ? [] : [image]), document.createTextNode(name));
        const x = Math.min((event.event?.clientX ?? 0) + 14, window.innerWidth - 190);
        const y = Math.min((event.event?.clientY ?? 0) + 14, window.innerHeight - 210);
        box.style.left = Math.max(4, x) + "px";
        box.style.top = Math.max(4, y) + "px";
        box.hidden = false;
      });
      place.on("plotly_unhover", () => { box.hidden = true; });
    };
    const turn = (how) => {
      const camera = structuredClone(place._fullLayout.scene.camera);
      const { eye, up } = camera;
      const length = Math.hypot(up.x, up.y, up.z) || 1;
      const axis = [up.x / length, up.y / length, up.z / length];
      let vector = [eye.x, eye.y, eye.z];
      const rotate = (v, k, angle) => {
        const cos = Math.cos(angle), sin = Math.sin(angle);
        const dot = v[0] * k[0] + v[1] * k[1] + v[2] * k[2];
        const cross = [k[1] * v[2] - k[2] * v[1], k[2] * v[0] - k[0] * v[2], k[0] * v[1] - k[1] * v[0]];
        return v.map((each, i) => each * cos + cross[i] * sin + k[i] * dot * (1 - cos));
      };
      if (how === "left" || how === "right") vector = rotate(vector, axis, how === "left" ? 0.3 : -0.3);
      if (how === "in" || how === "out") vector = vector.map((each) => each * (how === "in" ? 0.8 : 1.25));
      if (how === "up" || how === "down") vector = vector.map((each, i) => each + (how === "up" ? 0.3 : -0.3) * axis[i]);
      camera.eye = { x: vector[0], y: vector[1], z: vector[2] };
      window.Plotly.relayout(place, { "scene.camera": camera });
    };
    choice.addEventListener("change", draw);
    redraw = draw;
    for (const button of document.querySelectorAll("[data-turn]")) {
      button.addEventListener("click", () => { if (ready) turn(button.dataset.turn); });
    }
    near(place, draw);
  }

  // Light and dark; remembered nowhere: the page may be opened from a disk.
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    if (curves?.data) drawCurves();
    if (scene?.data) redraw();
  });
})();
