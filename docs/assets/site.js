// A table that is wider than the page can be scrolled by the keyboard, too.
for (const event of ["load", "resize"])
  addEventListener(event, () => {
    for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap"))
      if (wrap.scrollWidth > wrap.clientWidth) wrap.tabIndex = 0;
      else wrap.removeAttribute("tabindex");
  });
