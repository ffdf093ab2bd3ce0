/* Makes links of request ids. It stands after Flower's own scripts, before they set up a table. */
(function (script) {
  "use strict";

  const USABLE = /^[A-Za-z0-9._:=;/+-]{1,128}$/;
  const PREFIX = "request_id=";

  function anchor(text, url, title) {
    const link = document.createElement("a");
    link.textContent = text;
    link.href = url;
    link.title = title;
    return link;
  }

  /* The id, leading to its actions in the admin, and beside it a link to all of its tasks. */
  function links(id) {
    const query = encodeURIComponent(id);
    const actions = anchor(id, `${script.dataset.admin}?q=${query}`, `${id}, in the admin`);
    const tasks = anchor("filter", `${script.dataset.tasks}?request_id=${query}`,
      "Only the tasks of this request");
    tasks.className = "ms-2 small";
    return [actions, tasks];
  }

  function fillCell(cell, kwargs) {
    const id = kwargs.startsWith(PREFIX) ? kwargs.slice(PREFIX.length) : "";
    if (!USABLE.test(id)) {
      cell.replaceChildren();
      return;
    }
    const [actions, tasks] = links(id);
    actions.className = "d-inline-block text-truncate align-bottom";
    actions.style.maxWidth = "9rem";
    cell.replaceChildren(actions, tasks);
  }

  const heading = document.querySelector('#tasks-table th[data-column="kwargs"]');
  if (heading) {
    heading.textContent = "Request";
    /* When a cell is made, not later: the columns' widths are taken from what is in them. */
    $.fn.dataTable.defaults.column.createdCell = function (cell, value, task, row, column) {
      if (column === heading.cellIndex) {
        fillCell(cell, String(value));
      }
    };

    const wanted = new URLSearchParams(location.search).get("request_id");
    if (wanted && USABLE.test(wanted)) {
      $("#tasks-table").on("preInit.dt", function (event, settings) {
        new $.fn.dataTable.Api(settings).search(PREFIX + wanted);
      });
    }
  }

  const row = document.getElementById("request-row");
  if (row) {
    const place = row.content.querySelector("[data-request]");
    place.replaceChildren(...links(place.dataset.request));
    document.querySelector(".detail-list").prepend(row.content);
  }
}(document.currentScript));
