/* One pixel of the instant preview in Blender: maps and light to displayed color. Row 0 of every map is the top.
 *
 * Beside what platelight_relight.glsl needs: the samplers surfaceMap (normal, roughness), colorMap (albedo, f0), matteMap and
 * displayTable, the matrix viewFrame from the camera's frame to the upright one of the light, viewFrustum (the tangents of
 * half the field of view across and down, and of what the picture's middle lies right of the axis and above) and displayMode: 0 linear, 1 sRGB, 2 through displayTable.
 */

vec3 platelight_srgb(vec3 c)
{
  c = clamp(c, vec3(0.0), vec3(1.0));
  vec3 high = 1.055 * pow(max(c, vec3(0.0031308)), vec3(1.0 / 2.4)) - 0.055;
  return mix(high, 12.92 * c, vec3(lessThan(c, vec3(0.0031308))));
}

/* displayTable: slices of blue side by side, red across, green down; the axes are logarithmic. */
vec3 platelight_displayed(vec3 c)
{
  float size = float(textureSize(displayTable, 0).y);
  float low = float(PLATELIGHT_STOPS_LOW);
  float high = float(PLATELIGHT_STOPS_HIGH);
  vec3 place = (log2(max(c, vec3(0.0)) + exp2(low)) - low) / (high - low);
  place = clamp(place, vec3(0.0), vec3(1.0)) * (size - 1.0);
  float slice = min(floor(place.b), size - 2.0);
  vec2 wide = vec2(size * size, size);
  vec2 at = place.rg + 0.5;
  vec3 front = textureLod(displayTable, (at + vec2(slice * size, 0.0)) / wide, 0.0).rgb;
  vec3 back = textureLod(displayTable, (at + vec2((slice + 1.0) * size, 0.0)) / wide, 0.0).rgb;
  return mix(front, back, place.b - slice);
}

vec4 platelight_pixel(vec2 at)
{
  float matte = textureLod(matteMap, at, 0.0).r;
  if (matte <= 0.0) {
    return vec4(0.0);
  }
  vec4 surface = textureLod(surfaceMap, at, 0.0);
  vec4 color = textureLod(colorMap, at, 0.0);
  mat3 frame = mat3(viewFrame[0].xyz, viewFrame[1].xyz, viewFrame[2].xyz);
  vec3 view = normalize(vec3((vec2(1.0, -1.0) - vec2(2.0, -2.0) * at) * viewFrustum.xy - viewFrustum.zw, 1.0));
  vec3 normal = surface.xyz / max(length(surface.xyz), 1e-6);
  vec3 diffuse, specular;
  platelight_shade(frame * normal, color.rgb, surface.a, color.a, frame * view, true, diffuse, specular);
  vec3 seen = diffuse + specular;
  if (displayMode == 1) {
    seen = platelight_srgb(seen);
  }
  else if (displayMode == 2) {
    seen = platelight_displayed(seen);
  }
  return vec4(seen, clamp(matte, 0.0, 1.0));
}
