// Draws each stream's course and answers the pointer. The data is in the page: one JSON element a stream.
"use strict";
(() => {
  const INK = "#1f2328", QUIET = "#6e7781", LINE = "#d1d9e0";
  const COLOURS = ["#57606a", "#2563a8", "#b3261e"]; // no label, normal, anomaly
  const LABELS = ["no label", "normal", "anomaly"], STATUSES = ["", ", late", ", idle"];
  const LEFT = 42, RIGHT = 8, TOP = 16, BOTTOM = 22, HEIGHT = 190;

  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const passed = (ms) => {
    const s = ms / 1000, days = s >= 86400 ? Math.floor(s / 86400) + " d " : "";
    return `${days}${two((s / 3600) % 24)}:${two((s / 60) % 60)}:${two(s % 60)}`;
  };
  const utc = (ms) => new Date(ms).toISOString().replace("T", " ").replace(/\.?0*Z$/, "Z");
  const clock = (ms, span) => {
    const text = new Date(ms).toISOString();
    return span > 2 * 864e5 ? text.slice(5, 10) : span > 6e5 ? text.slice(11, 16) : text.slice(11, 19);
  };

  class Course {
    constructor(figure) {
      this.data = JSON.parse(figure.querySelector("script").textContent);
      this.canvas = figure.querySelector("canvas");
      this.tip = figure.querySelector(".tip");
      const d = this.data;
      this.t = d.t.map((ms) => ms + d.t0);
      this.end = d.end;
      const low = Math.min(0.5, ...d.r), high = Math.max(1.5, ...d.r);
      this.low = Math.log(Math.max(low, 1e-3) * 0.85);
      this.high = Math.log(high * 1.25);
      this.draw();
      new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
      this.canvas.addEventListener("pointermove", (event) => this.hover(event));
      this.canvas.addEventListener("pointerdown", (event) => this.hover(event));
      this.canvas.addEventListener("pointerleave", () => this.hide());
      this.canvas.addEventListener("keydown", (event) => this.key(event));
    }

    x(ms) { return LEFT + ((ms - this.t[0]) / Math.max(1, this.end - this.t[0])) * (this.width - LEFT - RIGHT); }
    y(ratio) {
      const part = (Math.log(Math.max(ratio, 1e-3)) - this.low) / (this.high - this.low);
      return HEIGHT - BOTTOM - Math.max(0, Math.min(1, part)) * (HEIGHT - TOP - BOTTOM);
    }

    draw() {
      const scale = window.devicePixelRatio || 1;
      this.width = this.canvas.parentElement.clientWidth;
      this.canvas.width = this.width * scale;
      this.canvas.height = HEIGHT * scale;
      this.canvas.style.width = this.width + "px";
      this.canvas.style.height = HEIGHT + "px";
      const c = this.canvas.getContext("2d", { willReadFrequently: true });
      c.scale(scale, scale);
      this.c = c;
      this.spans(c);
      this.axes(c);
      this.points(c);
      this.alerts(c);
      this.image = c.getImageData(0, 0, this.canvas.width, this.canvas.height);
    }

    spans(c) {
      for (const [from, to] of this.data.faults) this.span(c, from, to, "#fdecea");
      for (const [from, to] of this.data.findings) this.bar(c, from, to, "#0a7d8c");
      for (const [from, to] of this.data.incidents) this.bar(c, from, to, "#e07b00");
    }

    bar(c, from, to, colour) {
      c.fillStyle = colour;
      c.fillRect(this.x(from), HEIGHT - BOTTOM - 4, Math.max(2, this.x(Math.min(to, this.end)) - this.x(from)), 4);
    }

    span(c, from, to, colour) {
      c.fillStyle = colour;
      c.fillRect(this.x(from), TOP, Math.max(2, this.x(to) - this.x(from)), HEIGHT - TOP - BOTTOM);
    }

    axes(c) {
      c.font = "11px system-ui, sans-serif";
      c.lineWidth = 1;
      for (const ratio of [0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100, 1000]) {
        if (Math.log(ratio) < this.low || Math.log(ratio) > this.high) continue;
        const y = this.y(ratio);
        c.strokeStyle = ratio === 1 ? INK : LINE;
        c.setLineDash(ratio === 1 ? [5, 3] : []);
        c.beginPath(); c.moveTo(LEFT, y); c.lineTo(this.width - RIGHT, y); c.stroke();
        c.fillStyle = ratio === 1 ? INK : QUIET;
        c.textAlign = "right";
        c.fillText(ratio + "×", LEFT - 4, y + 4);
      }
      c.setLineDash([]);
      const span = this.end - this.t[0], ticks = Math.max(2, Math.floor(this.width / 130));
      c.fillStyle = QUIET;
      for (let i = 0; i <= ticks; i++) {
        const ms = this.t[0] + (span * i) / ticks;
        c.textAlign = i === 0 ? "left" : i === ticks ? "right" : "center";
        c.fillText(this.data.elapsed ? passed(ms - this.t[0]) : clock(ms, span), this.x(ms), HEIGHT - 6);
      }
    }

    points(c) {
      const d = this.data, size = d.r.length > 800 ? 2 : 3;
      for (let i = 0; i < d.r.length; i++) {
        c.fillStyle = COLOURS[d.l[i]];
        c.globalAlpha = d.s[i] ? 0.25 : 0.8;
        c.fillRect(this.x(this.t[i]) - size / 2, this.y(d.r[i]) - size / 2, size, size);
      }
      c.globalAlpha = 1;
    }

    alerts(c) {
      for (const alert of this.data.alerts) {
        const x = this.x(alert.ms);
        const over = alert.state === "closed" || alert.state === "settled";
        c.fillStyle = over ? "#2da44e" : alert.severity === "early" ? "#0a7d8c" : "#e07b00";
        c.beginPath(); c.moveTo(x - 5, 2); c.lineTo(x + 5, 2); c.lineTo(x, 12); c.fill();
      }
    }

    nearest(x) {
      let best = 0;
      for (let i = 1; i < this.t.length; i++) {
        if (Math.abs(this.x(this.t[i]) - x) <= Math.abs(this.x(this.t[best]) - x)) best = i;
      }
      return best;
    }

    hover(event) {
      const box = this.canvas.getBoundingClientRect();
      this.show(this.nearest(event.clientX - box.left));
    }

    key(event) {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      const step = event.key === "ArrowRight" ? 1 : -1;
      this.show(Math.max(0, Math.min(this.t.length - 1, (this.at ?? -1) + step)));
    }

    show(i) {
      this.at = i;
      const d = this.data, c = this.c;
      c.putImageData(this.image, 0, 0);
      const x = this.x(this.t[i]), y = this.y(d.r[i]);
      c.strokeStyle = INK;
      c.beginPath(); c.arc(x, y, 5, 0, 7); c.stroke();
      const alert = d.alerts.find((one) => one.ms === this.t[i]);
      const lines = [
        `${d.r[i].toPrecision(3)} × threshold, ${LABELS[d.l[i]]}${STATUSES[d.s[i]]}`,
        d.elapsed ? passed(this.t[i] - this.t[0]) + " after the first recording began" : utc(this.t[i]),
        d.o[i] === null ? d.files[d.f[i]] : `${d.files[d.f[i]]} at ${d.o[i].toFixed(1)} s`,
      ];
      if (alert) lines.unshift(`alert ${alert.state}, ${alert.severity}`);
      this.tip.replaceChildren(...lines.map((text) => Object.assign(document.createElement("div"), { textContent: text })));
      this.tip.hidden = false;
      const room = this.width - this.tip.offsetWidth;
      this.tip.style.left = Math.max(0, Math.min(room, x + 10)) + "px";
      this.tip.style.top = (y > HEIGHT / 2 ? 0 : HEIGHT - this.tip.offsetHeight - 4) + "px";
    }

    hide() {
      this.tip.hidden = true;
      this.c.putImageData(this.image, 0, 0);
    }
  }

  for (const figure of document.querySelectorAll("figure.course")) new Course(figure);
})();
